"""The corpus: schema, manifest, build, validate, order, stream, gather."""
