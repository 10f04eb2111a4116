// safefuse: the version, in one place. CMakeLists.txt reads it from here.
#ifndef SAFEFUSE_CORE_VERSION_HPP
#define SAFEFUSE_CORE_VERSION_HPP

#define SAFEFUSE_VERSION_MAJOR 0
#define SAFEFUSE_VERSION_MINOR 1
#define SAFEFUSE_VERSION_PATCH 0

/// The inline namespace of everything in the library, so that two vendored versions link into one program. Below 1.0 it
/// changes with the minor version; tests/result.test.cpp holds it against the numbers above.
#define SAFEFUSE_ABI v0_1

#endif
