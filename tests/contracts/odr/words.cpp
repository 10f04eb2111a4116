// A program that defines common words as macros before it includes the library's headers, as
// <windows.h>, <sys/sysmacros.h>, <complex.h> and old engines do. The headers of the standard
// library and the system are included first.
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#if !defined(_WIN32)
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#endif
#include <thread>

#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define near
#define far
#define small char
#define ERROR 0
#define IN
#define OUT
#define OPTIONAL
#define DELETE 0x00010000L
#define CONST const
#define VOID void
#define BOOL int
#define TRUE 1
#define FALSE 0
#define STRICT 1
#define interface struct
#define CreateFile CreateFileW
#define GetMessage GetMessageW
#undef major
#undef minor
#define major(dev) gnu_dev_major(dev)
#define minor(dev) gnu_dev_minor(dev)
#undef unix
#undef linux
#define unix 1
#define linux 1
#define I (__extension__ 1.0iF)
#define E 2.718281828
#define H 6.62607015e-34
#define PI 3.14159265
#define N 8
#define None 0L
#define Bool int
#define Status int
#define Success 0
#define assert(condition) ((void)0)
#define require(condition) ((void)0)
#define foreach for
#define slots
#define signals public
#define emit
#define nil nullptr
#define LOG(level) 0
#define CHECK(condition) 0
#define DEBUG 1
#define VERSION "1"

#include <safefuse/safefuse.hpp>

std::size_t failure_bytes() { return sizeof(safefuse::failure); }
