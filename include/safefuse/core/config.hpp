// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: what differs between compilers. No macro here changes a class member, a signature or a
// body.
#ifndef SAFEFUSE_CORE_CONFIG_HPP
#define SAFEFUSE_CORE_CONFIG_HPP

#include <safefuse/core/version.hpp>

#if defined(__clang__)
/// Marks a parameter (or, behind a member function, the object) that the result points into; clang
/// then warns of dangling uses.
#define SAFEFUSE_LIFETIMEBOUND [[clang::lifetimebound]]
#else
#define SAFEFUSE_LIFETIMEBOUND
#endif

#if defined(__NVCC__) && defined(__CUDACC__)
/// Marks a class: whoever drops one that a function returns is warned. Empty in nvcc's .cu files:
/// nvcc 13 also warns where such an object is assigned.
#define SAFEFUSE_NODISCARD
#else
#define SAFEFUSE_NODISCARD [[nodiscard]]
#endif

// Inlined at each of many calls, what is not called often would be most of what a loader links.
#if defined(_MSC_VER) && !defined(__clang__)
/// Marks a function that is kept out of line: one copy serves all callers.
#define SAFEFUSE_NOINLINE __declspec(noinline)
/// The same for one that only failures call: what leads to it is made small and laid aside. Never
/// for what every call comes by, for then the compiler takes the caller's own code for rare.
#define SAFEFUSE_COLD __declspec(noinline)
#else
#define SAFEFUSE_NOINLINE [[gnu::noinline]]
#define SAFEFUSE_COLD [[gnu::noinline, gnu::cold]]
#endif

#endif
