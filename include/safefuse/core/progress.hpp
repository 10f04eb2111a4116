// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: reports the progress of a run, and can stop it. All long operations take a
// progress_ref: fuse, rewrite, verification, device memory.
#ifndef SAFEFUSE_CORE_PROGRESS_HPP
#define SAFEFUSE_CORE_PROGRESS_HPP

#include <cstdint>
#include <string_view>
#include <type_traits>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The progress of a run.
struct run_progress {
    std::string_view tensor{};      ///< new name of the tensor in work
    std::uint64_t done_bytes = 0;   ///< bytes made so far
    std::uint64_t total_bytes = 0;  ///< bytes that the run makes in total
};

/// A reference to a callable that receives the progress and returns whether to continue. If it
/// returns false, the run ends with errc::canceled. It is called by one thread at a time, and
/// done_bytes never decreases. The callable must not throw.
///   lifetime  the callable must outlive the reference. A lambda written as the argument of a call
///           does
class progress_ref {
public:
    /// Reports to nobody and never stops a run.
    progress_ref() noexcept = default;
    /// Refers to a callable that takes a run_progress and returns a value that converts to bool.
    template <class F>
        requires(!std::is_same_v<std::remove_cvref_t<F>, progress_ref> &&
                 std::is_invocable_r_v<bool, F&, const run_progress&>)
    progress_ref(F&& f SAFEFUSE_LIFETIMEBOUND) noexcept  // NOLINT: a callable is meant to convert
                                                         // a function is no object, so the casts
                                                         // are not static ones
        : object_{reinterpret_cast<const void*>(&f)},
          call_{[](const void* object, const run_progress& progress) noexcept {
              using callable = std::remove_reference_t<F>;  // restores the constness
              return static_cast<bool>(
                  (*reinterpret_cast<callable*>(const_cast<void*>(object)))(progress));
          }} {}

    /// Whether there is a callable.
    explicit operator bool() const noexcept { return call_ != nullptr; }
    /// Reports the progress. Returns false if the run must stop.
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
