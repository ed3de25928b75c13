"""The spec: `backup.yaml`, loaded, checked, with one profile applied; immutable."""
