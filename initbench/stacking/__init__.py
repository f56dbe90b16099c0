"""Many runs of one structure trained as one."""
