/* The log: what was asked and how it ended, never a secret. The file is opened
 * for each line, since programs that become daemons close every descriptor. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "module.h"

static char file[4096];
static atomic_int where; /* 0 nowhere, 1 standard error, 2 the file */

void debug_to(const char *name)
{
	atomic_store(&where, 0);
	if (!*name)
		return;
	bool standard_error = strcmp(name, "stderr") == 0 || strcmp(name, "1") == 0;
	if (!standard_error)
		snprintf(file, sizeof file, "%s", name);
	atomic_store(&where, standard_error ? 1 : 2);
}

static void out(const char *line, size_t n)
{
	int fd = STDERR_FILENO;
	if (atomic_load(&where) == 2)
		fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	ssize_t written = write(fd, line, n);
	(void)written; /* there is nowhere to tell it */
	if (fd != STDERR_FILENO)
		close(fd);
}

void debug(const char *format, ...)
{
	char line[1024];
	struct timespec now;
	va_list args;
	if (!atomic_load(&where))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	int head = snprintf(line, sizeof line, "claviger-pkcs11[%d] %lld.%03ld ", (int)getpid(), (long long)now.tv_sec,
		now.tv_nsec / 1000000);
	va_start(args, format);
	int n = head + vsnprintf(line + head, sizeof line - (size_t)head - 1, format, args);
	va_end(args);
	if (n > (int)sizeof line - 2)
		n = sizeof line - 2;
	for (int i = head; i < n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 127)
			line[i] = '?';
	line[n++] = '\n';
	out(line, (size_t)n);
}
