/*
 * catamaran-guest-tool: the three things of the minimal guest for which busybox has no (fast) applet.
 *
 *   dhcp6 IFACE          a DHCPv6 client (RFC 8415) for one non-temporary address and name servers: solicits when a router
 *                        advertisement asks for it or after a short wait, requests, renews at T1, starts anew when the
 *                        lease is lost. Configures the interface with ip(8) and calls /usr/lib/catamaran/publish.
 *   modules STAGE        loads the kernel modules that /lib/modules/STAGE.list names, which the builder wrote in order of
 *                        dependency. One process for all of them: a fork per module is what a boot under emulation feels.
 *   counter TTY MS       writes "counter N" to TTY every MS milliseconds, N from 1 up, each line in one write. The fault
 *                        tests read from it that a guest neither restarted nor lost output.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SOLICIT = 1, ADVERTISE = 2, REQUEST = 3, RENEW = 5, REBIND = 6, REPLY = 7 };
enum { OPT_CLIENTID = 1, OPT_SERVERID = 2, OPT_IA_NA = 3, OPT_IAADDR = 5, OPT_ORO = 6, OPT_ELAPSED = 8, OPT_STATUS = 13,
       OPT_RAPID_COMMIT = 14, OPT_DNS = 23, OPT_DOMAINS = 24 };

struct lease {
    uint8_t server[130];
    size_t server_len;
    struct in6_addr address;
    uint32_t t1, t2, preferred, valid; /* seconds */
    struct in6_addr dns[4];
    int dns_count;
    int have_address;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void sleep_ms(long ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000L };
    nanosleep(&t, NULL);
}

static size_t put(uint8_t *at, uint16_t code, const void *data, size_t len)
{
    at[0] = code >> 8, at[1] = code & 255, at[2] = len >> 8, at[3] = len & 255;
    if (len)
        memcpy(at + 4, data, len);
    return 4 + len;
}

static uint32_t get32(const uint8_t *p) { return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }
static uint16_t get16(const uint8_t *p) { return p[0] << 8 | p[1]; }

/* Reads the options of a message or of an IA_NA; returns 0 when a status code other than success stands in them. */
static int parse(const uint8_t *p, size_t len, struct lease *lease)
{
    while (len >= 4) {
        uint16_t code = get16(p), size = get16(p + 2);
        const uint8_t *body = p + 4;

        if (size > len - 4)
            return 0;
        if (code == OPT_SERVERID && size <= sizeof(lease->server)) {
            memcpy(lease->server, body, size);
            lease->server_len = size;
        } else if (code == OPT_IA_NA && size >= 12) {
            lease->t1 = get32(body + 4), lease->t2 = get32(body + 8);
            if (!parse(body + 12, size - 12, lease))
                return 0;
        } else if (code == OPT_IAADDR && size >= 24) {
            memcpy(&lease->address, body, 16);
            lease->preferred = get32(body + 16), lease->valid = get32(body + 20);
            lease->have_address = lease->valid != 0;
        } else if (code == OPT_STATUS && size >= 2) {
            if (get16(body) != 0)
                return 0;
        } else if (code == OPT_DNS) {
            lease->dns_count = size / 16 > 4 ? 4 : size / 16;
            memcpy(lease->dns, body, lease->dns_count * 16);
        }
        p += 4 + size, len -= 4 + size;
    }
    return 1;
}

static size_t build(uint8_t *out, int type, const uint8_t xid[3], const uint8_t *duid, size_t duid_len, uint32_t iaid,
                    const struct lease *lease, double elapsed)
{
    uint8_t ia[12 + 28], status[2], oro[4] = { 0, OPT_DNS, 0, OPT_DOMAINS };
    size_t n = 4, ia_len = 12;
    long hundredths = elapsed * 100;

    out[0] = type, memcpy(out + 1, xid, 3);
    n += put(out + n, OPT_CLIENTID, duid, duid_len);
    if (type == REQUEST || type == RENEW)
        n += put(out + n, OPT_SERVERID, lease->server, lease->server_len);
    if (hundredths > 0xffff)
        hundredths = 0xffff;
    status[0] = hundredths >> 8, status[1] = hundredths & 255;
    n += put(out + n, OPT_ELAPSED, status, 2);
    n += put(out + n, OPT_ORO, oro, sizeof(oro));
    memset(ia, 0, sizeof(ia));
    ia[0] = iaid >> 24, ia[1] = iaid >> 16, ia[2] = iaid >> 8, ia[3] = iaid;
    if (type != SOLICIT) {
        uint8_t addr[24] = { 0 };
        memcpy(addr, &lease->address, 16);
        ia_len += put(ia + 12, OPT_IAADDR, addr, 24);
    }
    n += put(out + n, OPT_IA_NA, ia, ia_len);
    if (type == SOLICIT)
        n += put(out + n, OPT_RAPID_COMMIT, NULL, 0);
    return n;
}

/* One exchange: sends until `want` (or a rapid REPLY to a SOLICIT) comes or `tries` are used up; 1 = answered. */
static int exchange(int fd, int ifindex, int type, int want, int tries, const uint8_t *duid, size_t duid_len,
                    uint32_t iaid, struct lease *lease, int *got)
{
    struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(547), .sin6_scope_id = ifindex };
    uint8_t xid[3], out[512], in[1500];
    double begin = now(), wait = 1.0;

    inet_pton(AF_INET6, "ff02::1:2", &to.sin6_addr);
    if (getrandom(xid, 3, 0) != 3)
        return 0;
    while (tries-- > 0) {
        size_t n = build(out, type, xid, duid, duid_len, iaid, lease, now() - begin);
        double until = now() + wait;

        sendto(fd, out, n, 0, (struct sockaddr *)&to, sizeof(to));
        for (;;) {
            struct pollfd p = { .fd = fd, .events = POLLIN };
            double left = until - now();
            struct lease fresh = *lease;
            ssize_t len;

            if (left <= 0 || poll(&p, 1, left * 1000 + 1) <= 0)
                break;
            len = recv(fd, in, sizeof(in), 0);
            if (len < 4 || memcmp(in + 1, xid, 3) != 0 || (in[0] != want && !(type == SOLICIT && in[0] == REPLY)))
                continue;
            fresh.have_address = 0;
            if (!parse(in + 4, len - 4, &fresh) || !fresh.have_address)
                continue;
            *lease = fresh;
            *got = in[0];
            return 1;
        }
        wait = wait < 16 ? wait * 2 : 16;
    }
    return 0;
}

static void configure(const char *iface, const struct lease *lease, int first)
{
    char text[INET6_ADDRSTRLEN], command[256];
    FILE *file;
    int i;

    inet_ntop(AF_INET6, &lease->address, text, sizeof(text));
    if (lease->valid == 0xffffffff)
        snprintf(command, sizeof(command), "ip -6 addr replace %s/128 dev %s", text, iface);
    else
        snprintf(command, sizeof(command), "ip -6 addr replace %s/128 dev %s valid_lft %u preferred_lft %u", text, iface,
                 lease->valid, lease->preferred);
    if (system(command) != 0) { /* An ip(8) without lifetimes: the address without them. */
        snprintf(command, sizeof(command), "ip -6 addr add %s/128 dev %s 2>/dev/null", text, iface);
        if (system(command) != 0)
            fprintf(stderr, "cannot set %s\n", text);
    }
    if ((file = fopen("/run/resolv.conf.v6", "w"))) {
        for (i = 0; i < lease->dns_count; i++) {
            char server[INET6_ADDRSTRLEN];
            inet_ntop(AF_INET6, &lease->dns[i], server, sizeof(server));
            fprintf(file, "nameserver %s\n", server);
        }
        fclose(file);
    }
    snprintf(command, sizeof(command), "/run/lease6.%s", iface);
    if ((file = fopen(command, "w"))) {
        fprintf(file, "address=%s t1=%u t2=%u valid=%u\n", text, lease->t1, lease->t2, lease->valid);
        fclose(file);
    }
    snprintf(command, sizeof(command),
             "cat /run/resolv.conf.v4 /run/resolv.conf.v6 2>/dev/null >/etc/resolv.conf; /usr/lib/catamaran/publish;"
             " %s . /usr/lib/catamaran/say.sh; say 'address: %s %s/128 lease6 %u'",
             first ? "" : "exit;", iface, text, lease->valid);
    if (system(command) != 0)
        fprintf(stderr, "cannot publish\n");
    printf("%.2f %s %s valid %u\n", now(), first ? "bound" : "renew", text, lease->valid);
    fflush(stdout);
}

static int dhcp6(const char *iface)
{
    struct sockaddr_in6 self = { .sin6_family = AF_INET6, .sin6_port = htons(546) };
    struct ifreq request = { 0 };
    uint8_t duid[10] = { 0, 3, 0, 1 }; /* DUID-LL, ethernet */
    int ifindex = if_nametoindex(iface), fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), got = 0;

    if (ifindex == 0 || fd < 0) {
        fprintf(stderr, "%s: %s\n", iface, strerror(errno));
        return 1;
    }
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", iface);
    if (ioctl(fd, SIOCGIFHWADDR, &request) == 0)
        memcpy(duid + 4, request.ifr_hwaddr.sa_data, 6);
    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, iface, strlen(iface) + 1);
    while (bind(fd, (struct sockaddr *)&self, sizeof(self)) != 0)
        sleep_ms(500);

    for (;;) {
        struct lease lease = { 0 };
        double renewed;

        /* A machine without any IPv6 on its link asks less and less often, but never stops. */
        while (!exchange(fd, ifindex, SOLICIT, ADVERTISE, 4, duid, sizeof(duid), ifindex, &lease, &got))
            sleep_ms(10000);
        if (got != REPLY && !exchange(fd, ifindex, REQUEST, REPLY, 4, duid, sizeof(duid), ifindex, &lease, &got))
            continue;
        configure(iface, &lease, 1);
        renewed = now();
        for (;;) {
            double t1 = lease.t1 ? lease.t1 : lease.preferred / 2.0, t2 = lease.t2 ? lease.t2 : lease.preferred * 0.8;
            double wait = renewed + t1 - now();

            while (wait > 0) {
                sleep_ms(wait > 3600 ? 3600000 : (long)(wait * 1000) + 1);
                wait = renewed + t1 - now();
            }
            if (exchange(fd, ifindex, now() - renewed < t2 ? RENEW : REBIND, REPLY, 2, duid, sizeof(duid), ifindex, &lease,
                         &got)) {
                renewed = now();
                configure(iface, &lease, 0);
            } else if (now() - renewed > lease.valid) {
                break;
            }
        }
    }
}

static int modules(const char *stage)
{
    char path[256], name[128];
    FILE *list;

    snprintf(path, sizeof(path), "/lib/modules/%s.list", stage);
    if (!(list = fopen(path, "r"))) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    while (fscanf(list, "%127s", name) == 1) {
        int fd;

        snprintf(path, sizeof(path), "/lib/modules/%s.ko", name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        /* A driver whose device is not there may refuse: no error of this guest. */
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != ENODEV && errno != EEXIST))
            fprintf(stderr, "%s: %s\n", path, strerror(errno));
        if (fd >= 0)
            close(fd);
    }
    fclose(list);
    return 0;
}

static int counter(const char *tty, long ms)
{
    int fd = open(tty, O_WRONLY | O_NOCTTY);
    char line[64];

    if (fd < 0) {
        fprintf(stderr, "%s: %s\n", tty, strerror(errno));
        return 1;
    }
    for (unsigned long n = 1;; n++) {
        int len = snprintf(line, sizeof(line), "counter %lu\n", n), done = 0;

        while (done < len) {
            ssize_t written = write(fd, line + done, len - done);

            if (written < 0 && errno != EINTR && errno != EAGAIN)
                return 1;
            done += written > 0 ? written : 0;
        }
        sleep_ms(ms);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "dhcp6") == 0)
        return dhcp6(argv[2]);
    if (argc == 3 && strcmp(argv[1], "modules") == 0)
        return modules(argv[2]);
    if (argc == 4 && strcmp(argv[1], "counter") == 0 && atol(argv[3]) > 0)
        return counter(argv[2], atol(argv[3]));
    fprintf(stderr, "usage: catamaran-guest-tool dhcp6 IFACE | modules STAGE | counter TTY MILLISECONDS\n");
    return 2;
}
