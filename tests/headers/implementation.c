/* The header with its implementation, and nothing else. The switches are the other orders of including it. */
#ifdef SYSTEM_HEADERS_FIRST
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#endif
#ifdef DECLARATIONS_FIRST
#include "../../persistent_agent.h"
#endif
#ifdef WITH_ASSERT
#define PAGENT_ASSERT(condition) ((condition) ? (void)0 : __builtin_trap())
#endif
#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../../persistent_agent.h"
