"""Many files, one machine or many: jobs that survive whatever happens to the machine."""
