"""The store: artifacts sealed on their way to a target, snapshots, the catalog, retention."""
