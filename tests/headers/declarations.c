/* The header without its implementation, twice, as a user's other files include it. */
#include "../../persistent_agent.h"
#include "../../persistent_agent.h"

extern int headers_declarations_only;
int headers_declarations_only = PAGENT_OK;
