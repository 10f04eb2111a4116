// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the source files of a rewrite, identified by device and inode. Links and mounts can
// then not lead to replacing or removing a source, and a modified source is noticed.
#ifndef SAFEFUSE_WRITE_DETAIL_SOURCE_FILES_HPP
#define SAFEFUSE_WRITE_DETAIL_SOURCE_FILES_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/detail/path.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Number of sources of a set: one more than the highest index.
[[nodiscard]] inline std::uint32_t source_count(const tensor_set_ref& set) noexcept {
    std::uint32_t count = 0;
    for (std::size_t i = 0; i < set.size(); ++i)
        if (const std::uint32_t source = set.place(i).source; source >= count) count = source + 1;
    return count;
}

/// State of a source file. It changes if the file is modified.
struct source_state {
    std::uint64_t size_bytes = 0;
    std::uint64_t modified = 0;  ///< as os::modified_time
};

[[nodiscard]] inline source_state state_of_source(const tensor_set_ref& set,
                                                  std::uint32_t source) noexcept {
    source_state state;
    const std::intptr_t native = set.native_handle(source);
    if (native == no_native_handle) return state;
    (void)os::size_of(os::handle_of(native), state.size_bytes);
    state.modified = os::modified_time(os::handle_of(native));
    return state;
}

/// The states of all sources, by index.
///   fails   out_of_memory
[[nodiscard]] inline result<vector<source_state>> states_of_sources(
    const tensor_set_ref& set) noexcept {
    vector<source_state> states;
    const std::uint32_t count = source_count(set);
    for (std::uint32_t source = 0; source < count; ++source)
        if (!states.push(state_of_source(set, source))) return failure{.code = errc::out_of_memory};
    return states;
}

/// Checks that no source was modified since its state was taken.
///   fails   file_changed
[[nodiscard]] inline result<void> check_unchanged(const tensor_set_ref& set,
                                                  span<const source_state> states) noexcept {
    for (std::uint32_t source = 0; source < states.size(); ++source) {
        const source_state now = state_of_source(set, source);
        if (now.size_bytes == states[source].size_bytes && now.modified == states[source].modified)
            continue;
        failure why{.code = errc::file_changed,
                    .file = text{set.source_name(source)},
                    .detail = "it was modified while it was read; start again"};
        if (now.size_bytes != states[source].size_bytes) {
            why.expected = states[source].size_bytes;
            why.actual = now.size_bytes;
        }
        return why;
    }
    return {};
}

/// Permissions for files made from all sources: they grant other users no more than every source
/// does.
[[nodiscard]] inline std::uint32_t permissions_of_sources(const tensor_set_ref& set) noexcept {
    std::uint32_t permissions = os::file_permissions;
    const std::uint32_t count = source_count(set);
    for (std::uint32_t source = 0; source < count; ++source) {
        const std::intptr_t native = set.native_handle(source);
        os::entry_facts entry;
        if (native != no_native_handle && os::entry_of(os::handle_of(native), entry))
            permissions &= entry.permissions | 0600u;
    }
    return permissions;
}

/// Whether a real path equals or is inside a directory, also given by its real path.
[[nodiscard]] constexpr bool is_inside(std::string_view path, std::string_view directory) noexcept {
    if (!path.starts_with(directory)) return false;
    return path.size() == directory.size() || os::is_separator(path[directory.size()]) ||
           os::is_separator(directory.back());
}

/// Whether a real path or one of its parents is a directory known by device and inode. This finds
/// bind mounts, which are the same directory under another path.
[[nodiscard]] inline bool is_inside(std::string_view path,
                                    const os::entry_facts& directory) noexcept {
    while (!path.empty()) {
        const auto here = entry_of_path(path, true);
        if (here && here->is_same(directory)) return true;
        const std::string_view parent = directory_of(path);
        if (parent.size() >= path.size() || parent == ".") return false;
        path = parent;
    }
    return false;
}

/// The real path of a directory, or the one that it will have when it is created.
///   fails   file_not_found (its parent is missing), and as real_path
[[nodiscard]] inline result<text> future_path(std::string_view directory) noexcept {
    auto real = real_path(directory);
    if (real || real.error().code != errc::file_not_found) return real;
    std::string_view path = directory;
    while (path.size() > 1 && os::is_separator(path.back())) path.remove_suffix(1);
    auto parent = real_path(directory_of(path));
    if (!parent) {
        parent.error().file = directory;
        return parent;
    }
    text joined = join_path(*parent, file_name_of(path));
    if (joined.empty()) return failure{.code = errc::out_of_memory, .file = directory};
    return joined;
}

/// Checks that no directory of the source is inside the destination or around it, by path and by
/// device and inode. The directory of a single tensor file does not count as the source's.
///   fails   destination_in_source, and as future_path
inline result<void> check_apart(const tensor_set_ref& set, std::string_view destination) noexcept {
    auto to = future_path(destination);
    if (!to) return std::move(to).error();
    const auto to_entry = entry_of_path(*to, true);
    const std::uint32_t sources = source_count(set);
    std::string_view before;
    for (std::uint32_t source = 0; source < sources; ++source) {
        const std::string_view name = set.source_name(source);
        if (name.empty() || set.native_handle(source) == no_native_handle) continue;
        const std::string_view directory = directory_of(name);
        if (directory == before) continue;
        before = directory;
        auto from = real_path(directory);
        if (!from) continue;  // the directory was removed meanwhile; the file is still open
        const auto from_entry = entry_of_path(*from, true);
        const bool is_alone = sources == 1 && file_name_of(name) != "model.safetensors";
        const bool is_same = from->view() == to->view() ||
                             (from_entry && to_entry && from_entry->is_same(*to_entry));
        if (is_same ||
            (!is_alone && (is_inside(*to, *from) || (from_entry && is_inside(*to, *from_entry)))) ||
            is_inside(*from, *to) || (to_entry && is_inside(*from, *to_entry))) {
            failure why{.code = errc::destination_in_source, .file = destination};
            if (is_same) why.detail.append("it is the checkpoint to read: ");
            append_quoted(why.detail, directory);
            return why;
        }
    }
    return {};
}

/// The source files of a set, identified by device and inode.
class source_files {
public:
    /// The source files of `set` that have a native handle.
    ///   fails   out_of_memory
    static result<source_files> of(const tensor_set_ref& set) noexcept {
        source_files made;
        const std::uint32_t count = source_count(set);
        for (std::uint32_t source = 0; source < count; ++source) {
            const std::intptr_t native = set.native_handle(source);
            known each;
            if (native == no_native_handle || !os::entry_of(os::handle_of(native), each.entry))
                continue;
            each.source = source;
            if (!made.known_.push(each)) return failure{.code = errc::out_of_memory};
        }
        const auto before = [](const known& a, const known& b) noexcept {
            return is_before(a.entry, b.entry);
        };
        if (!sort(made.known_.view(), before)) return failure{.code = errc::out_of_memory};
        return made;
    }

    /// Index of the source that this file is, or no_index.
    [[nodiscard]] std::uint32_t find(const os::entry_facts& entry) const noexcept {
        std::size_t begin = 0, end = known_.size();
        while (begin < end) {
            const std::size_t middle = begin + (end - begin) / 2;
            if (is_before(known_[middle].entry, entry))
                begin = middle + 1;
            else
                end = middle;
        }
        return begin < known_.size() && known_[begin].entry.is_same(entry) ? known_[begin].source
                                                                           : no_index;
    }

    /// Checks that a path may be replaced: it does not exist, or it is not the only name of a
    /// source.
    ///   fails   destination_in_source, out_of_memory
    [[nodiscard]] result<void> check_replaceable(const tensor_set_ref& set,
                                                 std::string_view path) const noexcept {
        if (path.empty()) return failure{.code = errc::out_of_memory};
        const auto entry = entry_of_path(path, false);
        const std::uint32_t source = entry && !entry->is_link ? find(*entry) : no_index;
        if (source == no_index) return {};
        if (entry->link_count > 1) {
            const auto from = real_path(set.source_name(source)), to = real_path(path);
            if (from && to && !(from->view() == to->view()))
                return {};  // the source keeps another name
        }
        return failure{.code = errc::destination_in_source,
                       .file = path,
                       .detail = "it is a file of the checkpoint to read"};
    }

    /// Checks that replacing the files of a directory loses no source: none is reached through the
    /// directory, by whatever links, and none has all its names in it.
    ///   fails   destination_in_source, and as reading the directory does
    [[nodiscard]] result<void> check_survive(const tensor_set_ref& set,
                                             std::string_view directory) const noexcept {
        const auto in_it = [&](std::uint32_t source) noexcept {
            failure why{.code = errc::destination_in_source, .file = directory};
            append_quoted(why.detail, set.source_name(source));
            why.detail.append(" is a file of it");
            return why;
        };
        const auto here = entry_of_path(directory, true);
        if (!here) return failure{here.error()};
        text before;
        for (const known& each : known_) {
            const std::string_view name = set.source_name(each.source);
            if (name.empty()) continue;
            auto real = real_path(name);
            if (!real) continue;  // the file has no name any more, so it cannot be removed
            text real_directory{directory_of(*real)};
            if (real_directory.view() == before.view()) continue;
            if (is_inside(real_directory, *here)) return in_it(each.source);
            before = std::move(real_directory);
        }
        vector<std::uint64_t> names;
        if (!names.resize(known_.size(), 0)) return failure{.code = errc::out_of_memory};
        std::uint32_t lost = no_index;
        auto listed = list_directory(directory, [&](std::string_view name, bool) noexcept {
            const text path = join_path(directory, name);
            const auto entry =
                path.empty() ? result<os::entry_facts>{failure{}} : entry_of_path(path, false);
            if (!entry || entry->is_link || entry->kind != os::path_kind::file) return true;
            for (std::size_t i = 0; find(*entry) != no_index && i < known_.size(); ++i)
                if (known_[i].entry.is_same(*entry) && ++names[i] >= entry->link_count)
                    lost = known_[i].source;
            return lost == no_index;
        });
        if (!listed) return listed;
        if (lost != no_index) return in_it(lost);
        return {};
    }

private:
    struct known {
        os::entry_facts entry;
        std::uint32_t source = 0;
    };
    static bool is_before(const os::entry_facts& a, const os::entry_facts& b) noexcept {
        return a.device != b.device ? a.device < b.device : a.number < b.number;
    }

    vector<known> known_;  // sorted by device and inode
};

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
