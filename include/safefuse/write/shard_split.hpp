// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: assigns the tensors of a checkpoint to its files.
#ifndef SAFEFUSE_WRITE_SHARD_SPLIT_HPP
#define SAFEFUSE_WRITE_SHARD_SPLIT_HPP

#include <cstddef>
#include <cstdint>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Default size of a shard in huggingface_hub, in bytes.
inline constexpr std::uint64_t default_shard_bytes = 5'000'000'000;

/// Value of max_shard_bytes that gives every tensor its own file. Tensors without bytes share one
/// file, by the same rules.
inline constexpr std::uint64_t one_tensor_per_file = 0;

/// In a list of groups: this tensor belongs to no group.
inline constexpr std::uint32_t no_group = ~std::uint32_t{0};

/// The shard of each tensor.
struct shard_split {
    /// By tensor: the index of its shard.
    vector<std::uint32_t> shard_of;
    std::uint32_t shard_count = 0;  ///< number of shards
};

/// Splits tensors into shards as huggingface_hub does, in the order given. A shard is closed before
/// the tensor that would take it over `max_shard_bytes`. A tensor larger than that gets its own
/// shard, numbered before the open one. Neighbours with the same number in `groups` count as one
/// tensor.
///   source  huggingface_hub serialization/_base.py split_state_dict_into_shards_factory;
///           tests/unit/write/checkpoint_writer.test.cpp
///   fails   size_overflow, partial_byte, out_of_memory
[[nodiscard]] inline result<shard_split> split_into_shards(
    span<const tensor_spec> tensors, std::uint64_t max_shard_bytes,
    span<const std::uint32_t> groups = {}) noexcept {
    constexpr std::uint32_t open = ~std::uint32_t{0};
    shard_split split;
    if (!split.shard_of.resize(tensors.size(), open)) return failure{.code = errc::out_of_memory};
    std::uint64_t open_bytes = 0;
    std::size_t open_count = 0, first_open = 0;
    const auto close = [&](std::size_t end) noexcept {
        for (std::size_t i = first_open; i < end; ++i)
            if (split.shard_of[i] == open) split.shard_of[i] = split.shard_count;
        if (open_count > 0) ++split.shard_count;
        first_open = end;
        open_bytes = open_count = 0;
    };
    for (std::size_t i = 0, next = 0; i < tensors.size(); i = next) {
        std::uint64_t size_bytes = 0;
        do {
            std::uint64_t one_bytes = 0;
            const size_verdict verdict =
                tensor_size(tensors[next].type, tensors[next].shape, one_bytes);
            if (verdict == size_verdict::partial_byte)
                return failure{.code = errc::partial_byte, .tensor = tensors[next].name};
            if (verdict == size_verdict::overflows ||
                !detail::checked_add(size_bytes, one_bytes, size_bytes))
                return failure{.code = errc::size_overflow, .tensor = tensors[next].name};
            ++next;
        } while (next < tensors.size() && !groups.empty() && groups[next] != no_group &&
                 groups[next] == groups[i]);
        if (size_bytes > max_shard_bytes) {
            for (std::size_t t = i; t < next; ++t) split.shard_of[t] = split.shard_count;
            ++split.shard_count;
            continue;
        }
        if (size_bytes > max_shard_bytes - open_bytes) close(i);  // the sum could overflow
        open_bytes += size_bytes;
        ++open_count;
    }
    close(tensors.size());
    return split;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
