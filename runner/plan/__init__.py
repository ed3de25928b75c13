"""Plans: ordered steps as data. Compilers are pure; only `facts` looks at the world."""
