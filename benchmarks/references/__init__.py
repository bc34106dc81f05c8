"""What is compared with: loops of our own after what public trainers, samplers and tools do, none of them copied."""
