// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: copies the files of a checkpoint unchanged, if a rewrite would change nothing.
#ifndef SAFEFUSE_WRITE_COPY_CHECKPOINT_HPP
#define SAFEFUSE_WRITE_COPY_CHECKPOINT_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/progress.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/io/detail/path.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/write/detail/file_copier.hpp>
#include <safefuse/write/rewrite_options.hpp>
#include <safefuse/write/rewrite_plan.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Whether a rewrite changes nothing: every tensor of the set keeps its name, dtype, shape and
/// bytes, and no tensor is added. If so, copy_checkpoint makes an equal checkpoint with equal
/// files.
///   fails   as rewrite_plan::plan_of; out_of_memory
[[nodiscard]] inline result<bool> changes_nothing(const rewrite_plan& plan) noexcept {
    const tensor_set_ref& set = plan.set();
    if (plan.tensors().size() != set.size()) return false;
    detail::name_table table;
    const auto names = [&](std::uint32_t i) noexcept { return set.spec(i).name; };
    if (!table.reserve(set.size())) return failure{.code = errc::out_of_memory};
    for (std::uint32_t i = 0; i < set.size(); ++i)
        static_cast<void>(table.insert(set.spec(i).name, i, names));  // room was reserved
    std::uint32_t planned = rewrite_plan::passthrough;
    result<copy_plan> scope{failure{}};
    for (std::size_t t = 0; t < plan.tensors().size(); ++t) {
        const rewrite_plan::origin from = plan.origin_of(t);
        const tensor_spec& made = plan.tensors()[t];
        if (from.scope == rewrite_plan::passthrough) {
            if (set.spec(from.number).name != made.name) return false;
            continue;
        }
        if (planned != from.scope) scope = plan.plan_of(from.scope);
        if (!scope) return std::move(scope).error();
        planned = from.scope;
        const copy_block* const run = scope->single_run(from.number);
        const std::uint32_t at = table.find(made.name, names);
        if (run == nullptr || at == detail::name_table::npos) return false;
        const tensor_spec stored = set.spec(at);
        const tensor_location place = set.place(at);
        if (stored.type != made.type || !detail::same_shape(stored.shape, made.shape) ||
            place.source != run->source || place.offset != run->source_offset ||
            place.size_bytes != run->run_bytes)
            return false;
    }
    return true;
}

/// Whether all files of a checkpoint are in one directory, as copy_checkpoint requires.
template <class Source>
[[nodiscard]] bool is_in_one_directory(const basic_checkpoint<Source>& from) noexcept {
    if (from.file_count() == 0) return false;
    const std::string_view first =
        from.index_path().empty() ? from.file(0).path() : from.index_path();
    for (std::size_t f = 0; f < from.file_count(); ++f)
        if (detail::directory_of(from.file(f).path()) != detail::directory_of(first)) return false;
    return true;
}

/// Copies the tensor files of a checkpoint and its index to a directory, byte for byte and under
/// the same names. Use it for checkpoints that a rewrite would not change (changes_nothing). It
/// gives the guarantees of `rewrite`: the directory is locked, each file is complete or absent, and
/// a killed run can be resumed (options.resume). Tensors that the index does not list stay in their
/// files. Options about splitting are ignored.
///   memory  1 MiB
///   fails   path_leaves_directory (the files are in several directories), and as `rewrite`
template <class Source>
result<rewrite_summary> copy_checkpoint(const basic_checkpoint<Source>& from,
                                        std::string_view directory,
                                        const rewrite_options& options = {},
                                        progress_ref progress = {}) noexcept {
    if (!is_in_one_directory(from))
        return failure{.code = errc::path_leaves_directory,
                       .file = from.index_path(),
                       .detail = "its files are in several directories"};
    vector<detail::file_to_copy> files;
    for (std::size_t f = 0; f < from.file_count(); ++f)
        if (!files.push({from.file(f).path(), from.file(f).source().size_bytes()}))
            return failure{.code = errc::out_of_memory};
    detail::file_copier copier{from, files.view(), from.index_path(), directory, options, progress};
    return copier.run();
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
