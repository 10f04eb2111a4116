// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: selects the system calls of the target platform.
#ifndef SAFEFUSE_IO_DETAIL_OS_CALLS_HPP
#define SAFEFUSE_IO_DETAIL_OS_CALLS_HPP

#if defined(_WIN32)
#include <safefuse/io/detail/os_windows.hpp>
#else
#include <safefuse/io/detail/os_posix.hpp>
#endif

#endif
