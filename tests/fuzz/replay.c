/* Runs a fuzz target on the files named as arguments, without libFuzzer: to replay the corpus with plain gcc. */
#include <string.h>

#include "fuzz.h"

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        REQUIRE(file != NULL);
        REQUIRE(fseek(file, 0, SEEK_END) == 0);
        long size = ftell(file);
        REQUIRE(size >= 0);
        rewind(file);
        /* A block of exactly the file's size: AddressSanitizer sees one byte past it. */
        uint8_t *data = malloc((size_t)size);
        REQUIRE(size == 0 || (data != NULL && fread(data, 1, (size_t)size, file) == (size_t)size));
        fclose(file);
        LLVMFuzzerTestOneInput(data, (size_t)size);
        free(data);
    }
    printf("%d inputs\n", argc - 1);
    return 0;
}
