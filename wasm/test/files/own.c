/* own: an agent in C beside the engine: ./build.sh wasm wasm/test/files/own.c */
#include "../../../persistent_agent.h"
#include "counter.h"

const pagent_machine *const paw_own_machines[] = {&counter, NULL};
