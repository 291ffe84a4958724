/* test_bytes_portable.c: test_bytes.c once more, without the processor's CRC instruction. */
#define PAGENT_PORTABLE_CRC 1
#include "test_bytes.c"
