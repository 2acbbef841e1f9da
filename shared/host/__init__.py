"""The local host: embedded servers, supervision, and the tasks that stand in for a cluster's eventing."""
