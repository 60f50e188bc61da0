#include "squeeze.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

size_t squeezed(const char *text)
{
    uLong size = strlen(text);
    uLongf room = compressBound(size);
    Bytef *buffer = malloc(room);
    int code = buffer ? compress(buffer, &room, (const Bytef *)text, size) : Z_MEM_ERROR;
    free(buffer);
    return code == Z_OK ? room : 0;
}
