"""Memory in the prompt: what a policy is shown of its own run, made anew at every step."""
