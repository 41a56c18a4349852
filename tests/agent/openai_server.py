"""llama.cpp's own HTTP server with the model that comes with Pithead; says its address, and serves until its input ends."""

import sys

import xllamacpp

from pithead.agent.runners.llama import BUILT_IN, built_in

params = xllamacpp.CommonParams()
params.model.path = str(built_in()[BUILT_IN])
params.model_alias = {"served"}
params.n_ctx = 1024
params.n_gpu_layers = 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
params.n_parallel = 1
params.verbosity = -1
params.warmup = params.ui = False
params.cache_prompt = False
params.api_keys = ["sesame"]
params.hostnames = ["127.0.0.1"]
params.port = 0
server = xllamacpp.Server(params)
sys.stdout.write(f"{server.listening_address}\n")
sys.stdout.flush()
sys.stdin.read()
