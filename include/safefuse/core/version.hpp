// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the version number. CMakeLists.txt reads it from here.
#ifndef SAFEFUSE_CORE_VERSION_HPP
#define SAFEFUSE_CORE_VERSION_HPP

#if (defined(_MSVC_LANG) ? _MSVC_LANG : __cplusplus) < 202002L
#error "safefuse needs C++20: add -std=c++20 (MSVC: /std:c++20)"
#endif

#define SAFEFUSE_VERSION_MAJOR 0
#define SAFEFUSE_VERSION_MINOR 2
#define SAFEFUSE_VERSION_PATCH 0

/// The inline namespace of everything in the library, so that two vendored versions can be linked
/// into one program. Before 1.0 it changes with the minor version; tests/unit/core/result.test.cpp
/// compares it with the numbers above.
#define SAFEFUSE_ABI v0_2

#endif
