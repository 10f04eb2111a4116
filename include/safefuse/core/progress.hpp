// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: how far a run is, and how to stop it. Whatever takes long takes a progress_ref: fuse,
// rewrite, verification, device memory.
#ifndef SAFEFUSE_CORE_PROGRESS_HPP
#define SAFEFUSE_CORE_PROGRESS_HPP

#include <cstdint>
#include <string_view>
#include <type_traits>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// How far a run is.
struct run_progress {
    std::string_view tensor{};      ///< that was just worked on, by its new name
    std::uint64_t done_bytes = 0;   ///< of what the run makes, so far
    std::uint64_t total_bytes = 0;  ///< that the run makes
};

/// A function that is told of progress and answers whether to go on; false ends the run with
/// errc::canceled. One thread at a time calls it, and done_bytes never falls. It refers to the
/// callable, which must not throw.
///   lifetime  the callable must outlive the reference; one that is written into the call does
class progress_ref {
public:
    /// Nobody is told, and everything goes on.
    progress_ref() noexcept = default;
    /// Any callable that takes a run_progress and answers what converts to bool.
    template <class F>
        requires(!std::is_same_v<std::remove_cvref_t<F>, progress_ref> &&
                 std::is_invocable_r_v<bool, F&, const run_progress&>)
    progress_ref(F&& f SAFEFUSE_LIFETIMEBOUND) noexcept  // NOLINT: a callable is meant to convert
                                                         // a function is no object, so the casts
                                                         // are not static ones
        : object_{reinterpret_cast<const void*>(&f)},
          call_{[](const void* object, const run_progress& progress) noexcept {
              using callable = std::remove_reference_t<F>;  // as const as the caller's was
              return static_cast<bool>(
                  (*reinterpret_cast<callable*>(const_cast<void*>(object)))(progress));
          }} {}

    /// Whether anybody is told.
    explicit operator bool() const noexcept { return call_ != nullptr; }
    /// Tells how far it is; false: stop.
    bool operator()(const run_progress& progress) const noexcept {
        return call_ == nullptr || call_(object_, progress);
    }

private:
    const void* object_ = nullptr;
    bool (*call_)(const void*, const run_progress&) noexcept = nullptr;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
