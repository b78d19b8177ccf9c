"""What runs on the nodes of the simulation: generators, scenarios, scenario files, traces."""
