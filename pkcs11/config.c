/* Configuration: files of "key = value" lines, then CLAVIGER_PKCS11_* variables,
 * which count more. What is not understood is refused. Programs that run with
 * raised privileges take nothing from their environment. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "module.h"

enum { MAX_FILE = 65536, DEFAULT_TIMEOUT = 5000, LEAST_TIMEOUT = 100, MOST_TIMEOUT = 600000 };

bool refuse(struct why *why, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(why->text, sizeof why->text, format, args);
	va_end(args);
	return false;
}

/* A decimal number from least to most, nothing else. */
static bool number(const char *text, unsigned long least, unsigned long most, unsigned long *to)
{
	char *end;
	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*to = strtoul(text, &end, 10);
	return !errno && !*end && *to >= least && *to <= most;
}

static bool path(char *to, size_t size, const char *key, const char *value, struct why *why)
{
	if (*value != '/')
		return refuse(why, "%s: must be an absolute path", key);
	if (strlen(value) >= size)
		return refuse(why, "%s: longer than %zu bytes", key, size - 1);
	snprintf(to, size, "%s", value);
	return true;
}

static bool set_debug(struct config *c, const char *value, struct why *why)
{
	if (!*value || strcmp(value, "0") == 0) {
		c->debug[0] = 0;
		return true;
	}
	if (strcmp(value, "1") == 0 || strcmp(value, "stderr") == 0) {
		strcpy(c->debug, "stderr");
		return true;
	}
	return path(c->debug, sizeof c->debug, "debug", value, why);
}

/* config_set sets what key names; false, and why, if key or value is wrong. */
bool config_set(struct config *c, const char *key, const char *value, struct why *why)
{
	unsigned long n;
	if (strcmp(key, "socket") == 0) {
		memset(c->places, 0, sizeof c->places);
		return path(c->places[0], sizeof c->places[0], key, value, why);
	}
	if (strcmp(key, "pin_file") == 0)
		return path(c->pin_file, sizeof c->pin_file, key, value, why);
	if (strcmp(key, "debug") == 0)
		return set_debug(c, value, why);
	if (strcmp(key, "uri") == 0)
		return uri_apply(c, value, why);
	if (strcmp(key, "timeout") == 0) {
		if (!number(value, LEAST_TIMEOUT, MOST_TIMEOUT, &n))
			return refuse(why, "timeout: must be %d to %d milliseconds", LEAST_TIMEOUT, MOST_TIMEOUT);
		c->timeout = (unsigned)n;
		return true;
	}
	if (strcmp(key, "slot") == 0) {
		if (!number(value, 0, UINT32_MAX, &n))
			return refuse(why, "slot: must be the number of a slot");
		c->slot = n;
		c->one_slot = true;
		return true;
	}
	return refuse(why, "%.40s: unknown; socket, timeout, pin_file, slot, uri and debug are known", key);
}

static char *trim(char *s)
{
	while (*s == ' ' || *s == '\t')
		s++;
	for (size_t n = strlen(s); n && strchr(" \t\r", s[n - 1]); n--)
		s[n - 1] = 0;
	return s;
}

static bool line(struct config *c, char *text, struct why *why)
{
	text = trim(text);
	if (!*text || *text == '#')
		return true;
	char *equals = strchr(text, '=');
	if (!equals)
		return refuse(why, "must be \"key = value\"");
	*equals = 0;
	return config_set(c, trim(text), trim(equals + 1), why);
}

/* config_text applies the n bytes of a configuration file. */
bool config_text(struct config *c, const char *text, size_t n, struct why *why)
{
	char one[8192];
	for (int number = 1; n; number++) {
		const char *end = memchr(text, '\n', n);
		size_t length = end ? (size_t)(end - text) : n;
		if (length >= sizeof one || memchr(text, 0, length))
			return refuse(why, "line %d: too long, or not text", number);
		memcpy(one, text, length);
		one[length] = 0;
		struct why reason;
		if (!line(c, one, &reason))
			return refuse(why, "line %d: %.200s", number, reason.text);
		length += end != NULL;
		text += length;
		n -= length;
	}
	return true;
}

/* read_file reads up to size bytes; -1 and errno if it cannot, or if there are more. */
static ssize_t read_file(const char *name, char *to, size_t size)
{
	size_t n = 0;
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return -1;
	for (;;) {
		char more;
		ssize_t got = n < size ? read(fd, to + n, size - n) : read(fd, &more, 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got > 0 && n == size) {
			got = -1;
			errno = EFBIG;
		}
		if (got <= 0) {
			int error = errno;
			close(fd);
			errno = error;
			return got < 0 ? -1 : (ssize_t)n;
		}
		n += (size_t)got;
	}
}

static bool config_file(struct config *c, const char *name, bool must, struct why *why)
{
	struct why reason;
	char *text = malloc(MAX_FILE);
	if (!text)
		return refuse(why, "out of memory");
	ssize_t n = read_file(name, text, MAX_FILE);
	bool ok = n >= 0 ? config_text(c, text, (size_t)n, &reason) : !must && (errno == ENOENT || errno == ENOTDIR);
	if (!ok && n < 0)
		snprintf(reason.text, sizeof reason.text, "%s", strerror(errno));
	free(text);
	return ok || refuse(why, "%.100s: %.150s", name, reason.text);
}

static bool config_files(struct config *c, struct why *why)
{
	char name[4096];
	const char *given = secure_getenv("CLAVIGER_PKCS11_CONF"), *home = secure_getenv("HOME");
	if (given && *given)
		return config_file(c, given, true, why);
	if (!config_file(c, "/etc/claviger/pkcs11.conf", false, why))
		return false;
	if (!home || *home != '/' || snprintf(name, sizeof name, "%s/.config/claviger/pkcs11.conf", home) >= (int)sizeof name)
		return true;
	return config_file(c, name, false, why);
}

static bool config_variables(struct config *c, struct why *why)
{
	static const char *const names[][2] = {
		{"CLAVIGER_PKCS11_URI", "uri"}, {"CLAVIGER_PKCS11_SOCKET", "socket"}, {"CLAVIGER_PKCS11_TIMEOUT", "timeout"},
		{"CLAVIGER_PKCS11_PIN_FILE", "pin_file"}, {"CLAVIGER_PKCS11_SLOT", "slot"}, {"CLAVIGER_PKCS11_DEBUG", "debug"},
	};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct why reason;
		const char *value = secure_getenv(names[i][0]);
		if (value && *value && !config_set(c, names[i][1], value, &reason))
			return refuse(why, "%s: %.200s", names[i][0], reason.text);
	}
	return true;
}

void config_defaults(struct config *c)
{
	const char *run = secure_getenv("XDG_RUNTIME_DIR");
	*c = (struct config){.timeout = DEFAULT_TIMEOUT};
	if (run && *run == '/' && snprintf(c->places[0], sizeof c->places[0], "%s/claviger/pkcs11.sock", run) >= (int)sizeof c->places[0])
		c->places[0][0] = 0;
	strcpy(c->places[1], "/run/claviger-agent/pkcs11.sock");
	strcpy(c->places[2], "/run/claviger/pkcs11.sock");
}

/* config_load reads the files and variables. The log is set first, so that it
 * can say what is wrong with the rest. */
bool config_load(struct config *c, struct why *why)
{
	const char *log = secure_getenv("CLAVIGER_PKCS11_DEBUG");
	config_defaults(c);
	if (log && !set_debug(c, log, why))
		return false;
	debug_to(c->debug);
	if (!config_files(c, why) || !config_variables(c, why))
		return false;
	debug_to(c->debug);
	return true;
}

/* token_source reads the client token from the configured file: its first line.
 * It is read each time, so a token that is renewed there counts at once. */
size_t token_source(char out[MAX_TOKEN + 1])
{
	char name[sizeof state.config.pin_file];
	lock();
	memcpy(name, state.config.pin_file, sizeof name);
	unlock();
	if (!name[0])
		return 0;
	ssize_t n = read_file(name, out, MAX_TOKEN);
	if (n < 0) {
		debug("pin_file: %s", strerror(errno));
		return 0;
	}
	for (ssize_t i = 0; i < n; i++)
		if (out[i] == '\n' || out[i] == '\r')
			n = i;
	return (size_t)n;
}
