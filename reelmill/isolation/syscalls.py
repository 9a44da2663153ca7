"""The system calls that decoding never needs, by what they would give to code that took the child over.

Numbers are those of x86_64 and aarch64 (Linux: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/
unistd.h); a dash where an architecture has no such call.
"""

from __future__ import annotations

import platform

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Machine to its AUDIT_ARCH value, in the order of the numbers below."""
LAST = 450
"""The last number that is judged below; for anything newer the kernel is made to look older (ENOSYS)."""

_DENIED = """
# other programs and processes
fork 57 -, vfork 58 -, execve 59 221, execveat 322 281, ptrace 101 117, process_vm_readv 310 270,
process_vm_writev 311 271, process_madvise 440 440, process_mrelease 448 448, kcmp 312 272, pidfd_open 434 434,
pidfd_getfd 438 438, pidfd_send_signal 424 424, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, setpgid 109 154,
setsid 112 157, setpriority 141 140, ioprio_set 251 30, sched_setaffinity 203 122, sched_setattr 314 274,
sched_setparam 142 118, sched_setscheduler 144 119, migrate_pages 256 238, move_pages 279 239
# the network and other channels
socket 41 198, socketpair 53 199, bind 49 200, connect 42 203, listen 50 201, accept 43 202, accept4 288 242,
sendto 44 206, sendmsg 46 211, sendmmsg 307 269, shmget 29 194, shmat 30 196, shmctl 31 195, semget 64 190,
semop 65 193, semtimedop 220 192, semctl 66 191, msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187,
mq_open 240 180, mq_unlink 241 181, mq_timedsend 242 182, mq_timedreceive 243 183, mq_notify 244 184,
mq_getsetattr 245 185
# files: making, changing, removing, watching
creat 85 -, truncate 76 45, ftruncate 77 46, fallocate 285 47, rename 82 -, renameat 264 38, renameat2 316 276,
link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36, unlink 87 -, unlinkat 263 35, mkdir 83 -, mkdirat 258 34,
rmdir 84 -, mknod 133 -, mknodat 259 33, chmod 90 -, fchmod 91 52, fchmodat 268 53, chown 92 -, fchown 93 55,
fchownat 260 54, lchown 94 -, utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88, setxattr 188 5,
lsetxattr 189 6, fsetxattr 190 7, removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16, flock 73 32,
memfd_create 319 279, memfd_secret 447 447, name_to_handle_at 303 264, open_by_handle_at 304 265,
fanotify_init 300 262, fanotify_mark 301 263, inotify_init 253 -, inotify_init1 294 26, inotify_add_watch 254 27,
sync 162 81, syncfs 306 267, splice 275 76, tee 276 77, vmsplice 278 75
# namespaces, mounts and limits
unshare 272 97, setns 308 268, mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, move_mount 429 429,
open_tree 428 428, fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433, mount_setattr 442 442,
quotactl 179 60, quotactl_fd 443 443, setrlimit 160 164, personality 135 92
# rights
setuid 105 146, setgid 106 144, setreuid 113 145, setregid 114 143, setresuid 117 147, setresgid 119 149,
setfsuid 122 151, setfsgid 123 152, setgroups 116 159, capset 126 91, add_key 248 217, request_key 249 218,
keyctl 250 219
# wide doors into the kernel
bpf 321 280, perf_event_open 298 241, userfaultfd 323 282, io_uring_setup 425 425, io_uring_enter 426 426,
io_uring_register 427 427, io_setup 206 0, io_submit 209 2, io_destroy 207 1, io_cancel 210 3, io_getevents 208 4,
io_pgetevents 333 292, modify_ldt 154 -, uselib 134 -, remap_file_pages 216 234, lookup_dcookie 212 18,
nfsservctl 180 42, init_module 175 105, finit_module 313 273, delete_module 176 106, create_module 174 -,
query_module 178 -, kexec_load 246 104, kexec_file_load 320 294
# the machine
reboot 169 142, swapon 167 224, swapoff 168 225, acct 163 89, syslog 103 116, _sysctl 156 -, sysfs 139 -,
vhangup 153 58, iopl 172 -, ioperm 173 -, sethostname 170 161, setdomainname 171 162, settimeofday 164 170,
clock_settime 227 112, adjtimex 159 171, clock_adjtime 305 266
"""
_JUDGED = """
clone 56 220, clone3 435 435, open 2 -, openat 257 56, openat2 437 437, kill 62 129, tgkill 234 131, tkill 200 130,
prctl 157 167, prlimit64 302 261, ioctl 16 29, fcntl 72 25
"""


def denied() -> dict[str, int]:
    """Calls of this machine that are refused whatever their arguments, and their numbers."""
    return _numbers(_DENIED)


def judged() -> dict[str, int]:
    """Calls of this machine that are refused for some arguments, or have an answer of their own (`seccomp.py`)."""
    return _numbers(_JUDGED)


def _numbers(table: str) -> dict[str, int]:
    column = 1 + list(ARCHITECTURES).index(platform.machine())
    lines = [line for line in table.splitlines() if not line.startswith("#")]
    calls = [entry.split() for line in lines for entry in line.split(",") if entry]
    return {call[0]: int(call[column]) for call in calls if call[column] != "-"}
