// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the free-form strings that a tensor file stores next to its tensors.
#ifndef SAFEFUSE_FORMAT_METADATA_HPP
#define SAFEFUSE_FORMAT_METADATA_HPP

#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/core/span.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// One entry of `__metadata__`.
struct metadata_entry {
    std::string_view key;    ///< unique in a file
    std::string_view value;  ///< any text
};

/// The metadata that accelerate and transformers expect in every file.
inline constexpr metadata_entry pytorch_metadata[] = {{"format", "pt"}};
/// None: the file has no `__metadata__`, as the reference writes it without metadata.
inline constexpr span<const metadata_entry> no_metadata{};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
