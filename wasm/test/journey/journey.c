/* journey: the machine of journey.h beside the engine: ./build.sh wasm wasm/test/journey/journey.c */
#include "../../../persistent_agent.h"
#include "journey.h"

const pagent_machine *const paw_own_machines[] = {&journey_machine, NULL};
