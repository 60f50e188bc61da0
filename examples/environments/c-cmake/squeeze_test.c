#include "squeeze.h"

int main(void)
{
    size_t size = squeezed("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    return !(size > 0 && size < 40);
}
