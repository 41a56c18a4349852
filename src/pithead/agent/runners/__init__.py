"""How jobs are run: what a runner is (`base`), those that there are (`llama`, `openai`, `command`, and those of other
packages), what the owner says of them (`config`), and all of them as one (`dispatch`)."""
