"""From a request to a graph of stages: spec, plan, stages."""
