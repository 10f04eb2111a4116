// safefuse: what differs between compilers. No macro here changes a class member, a signature or a body.
#ifndef SAFEFUSE_CONFIG_HPP
#define SAFEFUSE_CONFIG_HPP

#include <safefuse/version.hpp>

#if defined(__clang__)
/// Marks a parameter (or, behind a member function, the object) that the result points into; clang then warns of dangling uses.
#define SAFEFUSE_LIFETIMEBOUND [[clang::lifetimebound]]
#else
#define SAFEFUSE_LIFETIMEBOUND
#endif

#endif
