// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: differences between compilers. No macro here changes a class member, a function
// signature or a function body.
#ifndef SAFEFUSE_CORE_CONFIG_HPP
#define SAFEFUSE_CORE_CONFIG_HPP

#include <safefuse/core/version.hpp>

#if defined(__clang__)
/// Marks a parameter that the result points into. After a member function it marks the object.
/// clang then warns about dangling uses.
#define SAFEFUSE_LIFETIMEBOUND [[clang::lifetimebound]]
#else
#define SAFEFUSE_LIFETIMEBOUND
#endif

#if defined(__NVCC__) && defined(__CUDACC__)
/// Marks a class: the compiler warns if a returned object of it is discarded. Empty in nvcc's .cu
/// files, because nvcc 13 also warns when such an object is assigned.
#define SAFEFUSE_NODISCARD
#else
#define SAFEFUSE_NODISCARD [[nodiscard]]
#endif

// Inlining rarely called functions at many call sites would make up most of a loader's code.
#if defined(_MSC_VER) && !defined(__clang__)
/// Marks a function that is never inlined: all callers share one copy.
#define SAFEFUSE_NOINLINE __declspec(noinline)
/// Marks a function that only failure paths call. The compiler optimises callers for the other
/// branch: a function that also runs on success would make g++ treat the code around each call as
/// never run, in the user's functions, too.
#define SAFEFUSE_COLD __declspec(noinline)
#else
#define SAFEFUSE_NOINLINE [[gnu::noinline]]
#define SAFEFUSE_COLD [[gnu::noinline, gnu::cold]]
#endif

#endif
