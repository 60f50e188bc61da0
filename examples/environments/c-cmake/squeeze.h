#include <stddef.h>

/* The size of a text after deflate; 0 when it can't be compressed. */
size_t squeezed(const char *text);
