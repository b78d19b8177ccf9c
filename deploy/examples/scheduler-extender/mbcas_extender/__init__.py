"""A scheduler extender: kube-scheduler asks it, it asks MBCAS, and answers with scores of nodes."""
