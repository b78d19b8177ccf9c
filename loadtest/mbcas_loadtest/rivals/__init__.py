"""Systems that do the same job: one module each, all with the signature of `System`."""
