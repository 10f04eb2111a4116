// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the calls of the system that the program is built for.
#ifndef SAFEFUSE_IO_DETAIL_OS_CALLS_HPP
#define SAFEFUSE_IO_DETAIL_OS_CALLS_HPP

#if defined(_WIN32)
#include <safefuse/io/detail/os_windows.hpp>
#else
#include <safefuse/io/detail/os_posix.hpp>
#endif

#endif
