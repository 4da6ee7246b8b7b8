"""Tell local failures (DNS, network, CPU) from failures of web sites."""
