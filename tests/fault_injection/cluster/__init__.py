"""`make chaos`: the chart on a real cluster, whose pods, nodes and networks go away while work goes on."""
