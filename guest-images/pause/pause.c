/*
 * The pause container: holds a pod's namespaces, reaps what is reparented to it, ends on SIGTERM or SIGINT.
 *
 * No C library: three system calls are enough, and the binary stays below a few KiB and needs nothing of the image.
 * Signals stay blocked and are taken one by one with rt_sigtimedwait, so that no handler (and no restorer) is needed.
 */
static long call4(long number, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

enum { SYS_rt_sigprocmask = 14, SYS_exit_group = 231, SYS_wait4 = 61, SYS_rt_sigtimedwait = 128 };
enum { SIG_SETMASK = 2, WNOHANG = 1, SIGINT = 2, SIGTERM = 15, SIGCHLD = 17 };

__attribute__((noreturn, used)) void start_c(void)
{
    unsigned long mask = (1UL << (SIGINT - 1)) | (1UL << (SIGTERM - 1)) | (1UL << (SIGCHLD - 1));

    call4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, sizeof(mask));
    for (;;) {
        long signal = call4(SYS_rt_sigtimedwait, (long)&mask, 0, 0, sizeof(mask));

        if (signal == SIGINT || signal == SIGTERM)
            call4(SYS_exit_group, 0, 0, 0, 0);
        while (call4(SYS_wait4, -1, 0, WNOHANG, 0) > 0)
            ;
    }
}

/* The kernel enters with a 16-byte aligned stack and no return address; a call makes it what a C function expects. */
__asm__(".globl _start\n_start:\n    xor %ebp, %ebp\n    call start_c\n");
