"""Reports: what happened and how things stand, as JSON, as text, as documents."""
