"""Reading Stable Diffusions, ControlNets and what stands beside them."""
