"""How jobs are run: what a runner is (`base`), and the one that comes with Pithead (`llama`)."""
