/* libFuzzer: configuration files, and URIs within them. */
#include <stdlib.h>
#include <string.h>

#include "module.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct config c;
	struct why why;
	config_defaults(&c);
	if (!config_text(&c, (const char *)data, n, &why) && !memchr(why.text, 0, sizeof why.text))
		abort();
	if (c.timeout < 100 || (c.pin_file[0] && c.pin_file[0] != '/'))
		abort();
	return 0;
}
