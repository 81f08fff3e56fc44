/* PKCS#11 URIs (RFC 7512) that choose a slot and the source of the client token:
 * pkcs11:token=claviger?pin-source=file:/etc/nginx/token */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "module.h"

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What may stand unescaped in a value (section 2.3). */
static bool plain(char c, bool query)
{
	if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
		return true;
	return c && (strchr("-._~:[]@!$'()*+,=&", c) != NULL || (query && strchr("/?|", c))) && !(query && c == '&');
}

/* decode writes the n bytes of a value with their escapes resolved. */
static bool decode(char *to, size_t size, const char *from, size_t n, bool query)
{
	size_t used = 0;
	for (size_t i = 0; i < n; i++) {
		char c = from[i];
		if (c == '%') {
			if (n - i < 3 || hex(from[i + 1]) < 0 || hex(from[i + 2]) < 0)
				return false;
			c = (char)(hex(from[i + 1]) << 4 | hex(from[i + 2]));
			i += 2;
			if (!c)
				return false;
		} else if (!plain(c, query)) {
			return false;
		}
		if (used + 1 >= size)
			return false;
		to[used++] = c;
	}
	to[used] = 0;
	return true;
}

static bool path_attribute(struct config *c, const char *name, const char *value, struct why *why)
{
	if (strcmp(name, "slot-id") == 0 && c->one_slot)
		return refuse(why, "uri: slot-id must come once");
	if (strcmp(name, "slot-id") == 0)
		return config_set(c, "slot", value, why);
	if (strcmp(name, "token") != 0)
		return refuse(why, "uri: %s does not choose a slot; token and slot-id do", name);
	if (c->label[0])
		return refuse(why, "uri: token must come once");
	if (!*value || strlen(value) >= sizeof c->label)
		return refuse(why, "uri: token must have 1 to %zu bytes", sizeof c->label - 1);
	memcpy(c->label, value, strlen(value) + 1);
	return true;
}

static bool query_attribute(struct config *c, const char *name, const char *value, struct why *why)
{
	if (strcmp(name, "pin-value") == 0)
		return refuse(why, "uri: pin-value would show the client token; use pin-source=file:/path");
	if (strcmp(name, "pin-source") != 0)
		return refuse(why, "uri: %s is unknown here; pin-source is known", name);
	if (c->pin_file[0])
		return refuse(why, "uri: pin-source must come once");
	return config_set(c, "pin_file", strncmp(value, "file:", 5) == 0 ? value + 5 : value, why);
}

/* One "name=value" of n bytes. */
static bool attribute(struct config *c, const char *text, size_t n, bool query, struct why *why)
{
	char name[32], value[4096];
	const char *equals = memchr(text, '=', n);
	size_t length = equals ? (size_t)(equals - text) : 0;
	if (!length || length >= sizeof name)
		return refuse(why, "uri: must be name=value, separated by %s", query ? "&" : ";");
	memcpy(name, text, length);
	name[length] = 0;
	if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != length)
		return refuse(why, "uri: a name has letters, digits, - and _ only");
	if (!decode(value, sizeof value, equals + 1, n - length - 1, query))
		return refuse(why, "uri: the value of %s is too long or not escaped as RFC 7512 wants it", name);
	return query ? query_attribute(c, name, value, why) : path_attribute(c, name, value, why);
}

static bool attributes(struct config *c, const char *text, size_t n, bool query, struct why *why)
{
	while (n) {
		const char *end = memchr(text, query ? '&' : ';', n);
		size_t length = end ? (size_t)(end - text) : n;
		if (!attribute(c, text, length, query, why))
			return false;
		if (end && length + 1 == n)
			return refuse(why, "uri: ends with a separator");
		length += end != NULL;
		text += length;
		n -= length;
	}
	return true;
}

/* uri_apply takes slot and pin-source of a URI into c: the slot it names, and no
 * other, counts from here on; without a pin-source that of before stays. */
bool uri_apply(struct config *c, const char *uri, struct why *why)
{
	struct config next = *c;
	if (strncmp(uri, "pkcs11:", 7) != 0)
		return refuse(why, "uri: must begin with pkcs11:");
	uri += 7;
	const char *query = strchr(uri, '?');
	size_t n = query ? (size_t)(query - uri) : strlen(uri);
	next.label[0] = next.pin_file[0] = 0;
	next.one_slot = false;
	if (!attributes(&next, uri, n, false, why) || (query && !attributes(&next, query + 1, strlen(query + 1), true, why)))
		return false;
	if (query && !query[1])
		return refuse(why, "uri: nothing follows the question mark");
	if (!next.pin_file[0])
		memcpy(next.pin_file, c->pin_file, sizeof next.pin_file);
	*c = next;
	return true;
}
