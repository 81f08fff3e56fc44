/* libFuzzer: PKCS#11 URIs. */
#include <stdlib.h>
#include <string.h>

#include "module.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct config c, before;
	struct why why;
	char *uri = malloc(n + 8);
	memcpy(uri, "pkcs11:", 7);
	if (n)
		memcpy(uri + 7, data, n);
	uri[7 + n] = 0;
	config_defaults(&c);
	before = c;
	if (!uri_apply(&c, uri, &why) && memcmp(&c, &before, sizeof c) != 0)
		abort(); /* a URI that is refused changes nothing */
	free(uri);
	return 0;
}
