// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: writing a checkpoint of many files. Shard after shard, each complete under its name or absent, the index last; a run
// that is killed can go on where it stopped.
//
//     OUT/.safefuse-writing                    who writes here (a lock) and what (an identity); removed at the end
//     OUT/.model-00002-of-00003.safetensors.0123456789abcdef.tmp   the shard being written; a killed run leaves it behind
//     OUT/model-00001-of-00003.safetensors     complete, and on the disk before it got this name
//     OUT/model.safetensors.index.json         written when all shards are there
#ifndef SAFEFUSE_WRITE_CHECKPOINT_WRITER_HPP
#define SAFEFUSE_WRITE_CHECKPOINT_WRITER_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/header.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/mapped_file.hpp>
#include <safefuse/tensor/tensor_view.hpp>
#include <safefuse/write/detail/fingerprint.hpp>
#include <safefuse/write/tensor_file_writer.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The default of huggingface_hub.
inline constexpr std::uint64_t default_shard_bytes = 5'000'000'000;

/// As max_shard_bytes: every tensor in a file of its own. Those without bytes share one, by the same rules.
inline constexpr std::uint64_t one_tensor_per_file = 0;

/// In a list of groups: a tensor that may be parted from any other.
inline constexpr std::uint32_t no_group = ~std::uint32_t{0};

/// Which shard each tensor goes to.
struct shard_split {
    vector<std::uint32_t> shard_of;  ///< by tensor
    std::uint32_t shard_count = 0;          ///< how many shards there are
};

/// Splits tensors, in the order given, as huggingface_hub does: a shard is closed before the tensor that would take it over
/// `max_shard_bytes`, and a tensor larger than that gets a shard of its own, numbered before the one that is open. Neighbours
/// with the same number in `groups` count as one tensor.
///   source  huggingface_hub serialization/_base.py split_state_dict_into_shards_factory; tests/checkpoint_writer.test.cpp
///   fails   size_overflow, partial_byte, out_of_memory
[[nodiscard]] inline result<shard_split> split_into_shards(span<const tensor_spec> tensors, std::uint64_t max_shard_bytes,
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
            const size_verdict verdict = tensor_size(tensors[next].type, tensors[next].shape, one_bytes);
            if (verdict == size_verdict::partial_byte) return failure{.code = errc::partial_byte, .tensor = tensors[next].name};
            if (verdict == size_verdict::overflows || !detail::checked_add(size_bytes, one_bytes, size_bytes))
                return failure{.code = errc::size_overflow, .tensor = tensors[next].name};
            ++next;
        } while (next < tensors.size() && !groups.empty() && groups[next] != no_group && groups[next] == groups[i]);
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

/// How a checkpoint is written.
struct write_options {
    std::uint64_t max_shard_bytes = default_shard_bytes;         ///< or one_tensor_per_file
    span<const metadata_entry> metadata = pytorch_metadata;  ///< of every file
    std::uint64_t data_alignment =
        8;  ///< where the first tensor of each file may begin: a multiple of this, as encode_options says
    /// A number for each tensor, or nothing. Neighbours with the same number lie in one file, one behind the other; the groups
    /// whose size is a multiple of data_alignment come first there, so that they begin on one.
    span<const std::uint32_t> groups{};
    durability wait = durability::synced;  ///< after a power cut, only what was synced can be gone on with
    bool resume = false;                   ///< go on with what a killed run has left; where there is nothing, begin
    /// What decides the bytes beside names, dtypes and shapes. A run goes on only with what was begun with the same.
    fingerprint identity{};
    bool check_free_space = true;   ///< before anything is written
    std::uint64_t other_bytes = 0;  ///< what the caller writes beside the shards, so that there is room for it, too
    bool reserve = true;            ///< each file's place on the disk, before it is written
    /// The permissions of the files, as POSIX counts them, before the umask takes some away.
    std::uint32_t permissions = detail::os::file_permissions;
    /// finish() leaves the state file where it is, so that the directory can still be gone on with. Whoever completes the directory
    /// removes it: checkpoint_destination does.
    bool keep_state = false;
};

/// The files that a checkpoint will have. Nothing is written.
///   lifetime  names, shapes, metadata and groups stay the caller's
class checkpoint_outline {
public:
    /// Splits the tensors, in the order given.
    ///   fails   duplicate_tensor, size_overflow, partial_byte, out_of_memory
    static result<checkpoint_outline> make(span<const tensor_spec> tensors SAFEFUSE_LIFETIMEBOUND,
                                           const write_options& options = {}) noexcept {
        checkpoint_outline made;
        if (auto done = made.fill(tensors, options); !done) return std::move(done).error();
        return made;
    }

    /// How many files will hold tensors.
    [[nodiscard]] std::uint32_t shard_count() const noexcept { return split_.shard_count; }
    /// The number of the shard that tensor `i` goes to.
    [[nodiscard]] std::uint32_t shard_of(std::size_t i) const noexcept { return split_.shard_of[i]; }
    /// The tensors of a shard, numbers in the list given: the order in which the shard's file counts them.
    [[nodiscard]] span<const std::uint32_t> tensors_of(std::uint32_t shard) const noexcept SAFEFUSE_LIFETIMEBOUND {
        return order_.view().subspan(first_[shard], first_[shard + 1] - first_[shard]);
    }
    /// The file name of a shard, in the directory.
    [[nodiscard]] text shard_file(std::uint32_t shard) const noexcept {
        return shard_name("model", std::uint64_t{shard} + 1, split_.shard_count);
    }
    /// How a shard's file begins, and its size.
    ///   fails   as encode_header
    [[nodiscard]] result<encoded_header> header_of(std::uint32_t shard) const noexcept {
        vector<tensor_spec> specs;
        if (!specs_of(shard, specs)) return failure{.code = errc::out_of_memory};
        return encode_header(specs.view(), metadata_, {.data_alignment = data_alignment_, .keeps_order = !groups_.empty()});
    }
    /// The text of the index; empty where there is one shard, which needs none.
    ///   fails   as encode_index; size_overflow (of all tensors together)
    [[nodiscard]] result<vector<std::byte>> index() const noexcept {
        if (split_.shard_count == 1) return vector<std::byte>{};
        vector<text> files;
        for (std::uint32_t shard = 0; shard < split_.shard_count; ++shard)
            if (!files.push(shard_file(shard)) || files.back().lacks_memory()) return failure{.code = errc::out_of_memory};
        vector<shard_entry> entries;
        std::uint64_t total_bytes = 0;
        for (std::size_t i = 0; i < tensors_.size(); ++i) {
            std::uint64_t size_bytes = 0;
            static_cast<void>(tensor_size(tensors_[i].type, tensors_[i].shape, size_bytes));  // the split has checked it
            if (!detail::checked_add(total_bytes, size_bytes, total_bytes))
                return failure{.code = errc::size_overflow, .tensor = tensors_[i].name, .detail = "of all tensors together"};
            if (!entries.push({tensors_[i].name, files[split_.shard_of[i]].view()})) return failure{.code = errc::out_of_memory};
        }
        return encode_index(entries.view(), total_bytes);
    }

protected:
    checkpoint_outline() noexcept = default;

    /// What make() does, for classes derived from this one.
    ///   fails   as make
    result<void> fill(span<const tensor_spec> tensors, const write_options& options) noexcept {
        auto split = split_into_shards(tensors, options.max_shard_bytes, options.groups);
        if (!split) return std::move(split).error();
        tensors_ = tensors;
        metadata_ = options.metadata;
        groups_ = options.groups;
        data_alignment_ = options.data_alignment;
        split_ = std::move(*split);
        if (split_.shard_count == 0) split_.shard_count = 1;
        if (auto distinct = check_names(); !distinct) return distinct;
        if (!first_.resize(split_.shard_count + std::size_t{2}, 0) || !order_.resize(tensors.size(), 0))
            return failure{.code = errc::out_of_memory};
        for (const std::uint32_t shard : split_.shard_of) ++first_[shard + std::size_t{2}];
        for (std::size_t s = 2; s < first_.size(); ++s) first_[s] += first_[s - 1];
        for (std::uint32_t i = 0; i < tensors.size(); ++i) order_[first_[split_.shard_of[i] + std::size_t{1}]++] = i;
        for (std::uint32_t shard = 0; !groups_.empty() && shard < split_.shard_count; ++shard)
            if (!arrange(order_.view().subspan(first_[shard], first_[shard + 1] - first_[shard])))
                return failure{.code = errc::out_of_memory};
        return {};
    }

    /// Tells all that the files depend on but the tensors' bytes.
    void describe(detail::fingerprint_maker& maker) const noexcept {
        maker.add(data_alignment_);
        maker.add(metadata_.size());
        for (const metadata_entry& each : metadata_) {
            maker.add(each.key);
            maker.add(each.value);
        }
        maker.add(tensors_.size());
        for (const tensor_spec& each : tensors_) {
            maker.add(each.name);
            maker.add(name(each.type));
            maker.add(each.shape.size());
            for (const std::uint64_t extent : each.shape) maker.add(extent);
        }
        maker.add(groups_.size());
        for (const std::uint32_t i : order_) {
            maker.add(i);
            maker.add(split_.shard_of[i]);
        }
    }

    /// Appends the tensors of a shard in the order of its file; returns false when memory ran out.
    [[nodiscard]] bool specs_of(std::uint32_t shard, vector<tensor_spec>& specs) const noexcept {
        for (const std::uint32_t i : tensors_of(shard))
            if (!specs.push(tensors_[i])) return false;
        return true;
    }

private:
    /// No name is there twice, in whichever shards.
    result<void> check_names() const noexcept {
        detail::name_table table;
        const auto names = [&](std::uint32_t i) noexcept { return tensors_[i].name; };
        if (!table.reserve(tensors_.size())) return failure{.code = errc::out_of_memory};
        for (std::uint32_t i = 0; i < tensors_.size(); ++i)
            if (table.insert(tensors_[i].name, i, names).what != detail::name_table::outcome::inserted)  // room was reserved
                return failure{.code = errc::duplicate_tensor, .tensor = tensors_[i].name};
        return {};
    }

    /// Puts the tensors of a shard, which are in the order of the list, into the order of a file with groups: first the groups that
    /// leave the end aligned, then larger dtypes first, groups before others, others by name.
    bool arrange(span<std::uint32_t> shard) const noexcept {
        struct place {
            std::uint32_t tensor;
            std::uint32_t head;  // the first of its group
            bool grouped;
            bool aligned;
        };
        vector<place> places;
        for (std::size_t i = 0, next = 0; i < shard.size(); i = next) {
            const std::uint32_t group = groups_[shard[i]];
            std::uint64_t size_bytes = 0;
            do {
                std::uint64_t one_bytes = 0;
                static_cast<void>(tensor_size(tensors_[shard[next]].type, tensors_[shard[next]].shape, one_bytes));
                size_bytes += one_bytes;
                ++next;
            } while (next < shard.size() && group != no_group && groups_[shard[next]] == group);
            for (std::size_t t = i; t < next; ++t)
                if (!places.push({shard[t], shard[i], group != no_group, group != no_group && size_bytes % data_alignment_ == 0}))
                    return false;
        }
        const auto before = [&](const place& a, const place& b) noexcept {
            if (a.aligned != b.aligned) return a.aligned;
            if (a.aligned) return a.tensor < b.tensor;
            const dtype a_type = tensors_[a.head].type, b_type = tensors_[b.head].type;
            if (a_type != b_type) return a_type > b_type;
            if (a.grouped != b.grouped) return a.grouped;
            return a.grouped ? a.tensor < b.tensor : tensors_[a.tensor].name < tensors_[b.tensor].name;
        };
        if (!detail::sort(places.view(), before)) return false;
        for (std::size_t i = 0; i < places.size(); ++i) shard[i] = places[i].tensor;
        return true;
    }

protected:
    span<const tensor_spec> tensors_;  ///< the list given to fill()

private:
    span<const metadata_entry> metadata_;
    span<const std::uint32_t> groups_;
    std::uint64_t data_alignment_ = 8;
    shard_split split_;
    vector<std::uint32_t> first_;  // by shard, and one behind the last: where its tensors begin in order_
    vector<std::uint32_t> order_;
};

/// In a directory that a checkpoint is being written to: its lock, and what is being written. Whoever clears the directory by
/// hand removes it, too.
inline constexpr std::string_view writer_state_file = ".safefuse-writing";

namespace detail {

/// What makes a directory one writer's own: a file that is locked as long as this lives and tells what is being written.
class directory_claim {
public:
    directory_claim() noexcept = default;
    directory_claim(directory_claim&& other) noexcept : file_{std::move(other.file_)}, path_{std::move(other.path_)} {}
    directory_claim& operator=(directory_claim&& other) noexcept {
        file_ = std::move(other.file_);
        path_ = std::move(other.path_);
        return *this;
    }

    /// Locks the state file; makes it only if `make`.
    ///   fails   in_use, file_not_found (not made), not_a_file (it is a link), permission_denied, io_error
    static result<directory_claim> take(std::string_view directory, bool make) noexcept {
        directory_claim taken;
        taken.path_ = join_path(directory, writer_state_file);
        if (taken.path_.empty()) return failure{.code = errc::out_of_memory, .file = directory};
        os::handle file = os::no_handle;
        if (const auto came = os::lock_file(taken.path_.c_str(), make, file); !came) return came.about(directory);
        taken.file_ = open_handle{file};
        return taken;
    }

    /// What the file says: its first line, cut off where it is longer than it ever should be.
    [[nodiscard]] result<text> read() const noexcept {
        char characters[256];
        std::size_t read_bytes = 0;
        if (const auto came =
                os::read_at(file_.get(), 0, {reinterpret_cast<std::byte*>(characters), sizeof characters}, read_bytes);
            !came)
            return came.about(path_);
        const std::string_view all = detail::characters_at(characters, read_bytes);
        const std::size_t end = all.find('\n');
        return text{end == std::string_view::npos ? all : all.substr(0, end + 1)};
    }
    /// Replaces what the file says. A run that is killed meanwhile leaves the new first line or none that anybody knows; a longer
    /// text of another version does not stay behind it.
    result<void> write(std::string_view state, durability wait) noexcept {
        if (auto fits = check_file_size_limit(path_, state.size()); !fits) return fits;
        auto came = os::write_at(file_.get(), 0, {reinterpret_cast<const std::byte*>(state.data()), state.size()});
        if (came) came = os::set_size(file_.get(), state.size());
        if (came && wait == durability::synced) came = os::sync_file(file_.get());
        if (came && wait == durability::synced) came = os::sync_directory(text{directory_of(path_)}.c_str());
        if (!came) return came.about(path_);
        return {};
    }
    void remove() noexcept {
        if (file_.is_open()) os::remove_locked(file_.give(), path_.c_str());
    }
    [[nodiscard]] bool holds() const noexcept { return file_.is_open(); }
    /// Its directory has another path now.
    [[nodiscard]] bool moved_to(std::string_view directory) noexcept {
        text path = join_path(directory, writer_state_file);
        if (path.empty()) return false;
        path_ = std::move(path);
        return true;
    }

private:
    open_handle file_;
    text path_;
};

/// How the state file of a directory begins whose files are being replaced by those of a complete checkpoint.
inline constexpr std::string_view replacing_state = "safefuse is replacing the checkpoint here";

/// Whether a name is that of the hidden file that output_file writes.
[[nodiscard]] constexpr bool is_temporary(std::string_view name) noexcept {
    constexpr std::string_view ending = ".tmp";
    if (!name.starts_with('.') || !name.ends_with(ending)) return false;
    name.remove_suffix(ending.size());
    if (name.size() < 18 || name[name.size() - 17] != '.') return false;
    for (const char c : name.substr(name.size() - 16))
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) return false;
    return true;
}

/// Whether a name is that of the hidden file that output_file writes for a shard or an index.
[[nodiscard]] constexpr bool is_unfinished(std::string_view name) noexcept {
    if (!name.starts_with(".model") || !is_temporary(name)) return false;
    name.remove_suffix(std::string_view{".0123456789abcdef.tmp"}.size());
    return name.ends_with(tensor_file_ending) || name.ends_with(shard_index_ending);
}

}  // namespace detail

/// A checkpoint being written to a directory: shard after shard, then the index. While it lives nobody else can write there.
class checkpoint_writer : public checkpoint_outline {
public:
    /// The other writer has then nothing to finish or to remove.
    checkpoint_writer(checkpoint_writer&&) noexcept = default;
    /// What this one wrote so far is left as by its destructor.
    checkpoint_writer& operator=(checkpoint_writer&& other) noexcept {
        if (this != &other) {
            this->~checkpoint_writer();
            new (this) checkpoint_writer{std::move(other)};
        }
        return *this;
    }
    /// Without a finish(), shards that are there stay, to be gone on with; where there is none, nothing stays.
    ~checkpoint_writer() {
        if (claim_.holds() && !keep_state_ && check_vacant(false)) claim_.remove();
    }

    /// Splits the tensors, in the order given, and makes the directory if it is not there. A directory that holds tensor files or
    /// an index is refused, but for what an unfinished run of the same checkpoint has left, if `options.resume` asks to go on
    /// with it: shards under their names are kept when size and header are what would be written (the rest was synced before
    /// they got their names), what is half-written is removed.
    ///   lifetime  names, shapes and metadata stay the caller's, who keeps them until finish()
    ///   fails   duplicate_tensor, size_overflow, partial_byte, not_a_directory, destination_not_empty, another_rewrite (what was
    ///           begun there has another identity, other names or another split), in_use, disk_full (there is less room than all
    ///           files need), io_error (a file would be larger than this process may write), and as encode_header and making a
    ///           directory do
    static result<checkpoint_writer> create(std::string_view directory,
                                            span<const tensor_spec> tensors SAFEFUSE_LIFETIMEBOUND,
                                            const write_options& options = {}) noexcept {
        checkpoint_writer writer;
        if (auto filled = writer.fill(tensors, options); !filled) return std::move(filled).error();
        writer.directory_ = directory;
        writer.wait_ = options.wait;
        writer.reserve_ = options.reserve;
        writer.other_bytes_ = options.other_bytes;
        writer.permissions_ = options.permissions;
        writer.keep_state_ = options.keep_state;
        if (writer.directory_.size() != directory.size() || !writer.done_.resize(writer.shard_count(), false))
            return failure{.code = errc::out_of_memory, .file = directory};
        auto ready = writer.take_directory(options);
        if (!ready) return std::move(ready).error();
        return writer;
    }

    /// Whether a shard was there already, complete.
    [[nodiscard]] bool is_done(std::uint32_t shard) const noexcept { return done_[shard]; }

    /// A shard's file, to be written and committed; its tensors are tensors_of(shard), in that order.
    ///   fails   as tensor_file_writer::create
    [[nodiscard]] result<tensor_file_writer> open_shard(std::uint32_t shard) const noexcept {
        vector<tensor_spec> specs;
        if (!specs_of(shard, specs)) return failure{.code = errc::out_of_memory};
        auto header = header_of(shard);
        if (!header) return std::move(header).error();
        return tensor_file_writer::create(path_of(shard), specs.view(), std::move(*header), reserve_, permissions_);
    }

    /// The path that a shard's file has or gets.
    [[nodiscard]] text shard_path(std::uint32_t shard) const noexcept { return path_of(shard); }

    /// Makes a shard another name of a file that is byte for byte what it will be; the file that is open, if `native_handle` is one.
    /// False where that cannot be done: the shard must then be written.
    [[nodiscard]] bool link_shard(std::uint32_t shard, std::string_view file, std::intptr_t native_handle) const noexcept {
        const text path = path_of(shard);
        if (path.empty() || file.empty() || native_handle == no_native_handle) return false;
        const text source{file};
        if (source.size() != file.size()) return false;
        // by its path: Windows syncs nothing through a handle that only reads
        if (wait_ == durability::synced && !detail::os::sync_path(source.c_str())) return false;
        (void)detail::os::remove_file(path.c_str());  // a shard that was there and is not what it should be
        if (!detail::link_file(file, path)) return false;
        if (!detail::os::is_same_file(detail::os::handle_of(native_handle), path.c_str())) {
            (void)detail::os::remove_file(path.c_str());
            return false;
        }
        return wait_ != durability::synced || detail::os::sync_directory(directory_.c_str());
    }

    /// Writes the shard index, if there is more than one shard, and gives the directory free; its state file stays if the options
    /// say so. Call it when all shards are committed.
    ///   fails   as encode_index and output_file
    result<void> finish() noexcept {
        auto encoded = index();
        if (!encoded) return std::move(encoded).error();
        if (!encoded->empty()) {
            auto file = output_file::create(detail::join_path(directory_, index_file), encoded->size(), true, permissions_);
            if (!file) return std::move(file).error();
            if (auto written = file->write(0, encoded->view()); !written) return written;
            if (auto committed = file->commit(wait_); !committed) return committed;
        }
        if (keep_state_)
            claim_ = detail::directory_claim{};
        else
            claim_.remove();
        return {};
    }

private:
    static constexpr std::string_view index_file = "model.safetensors.index.json";

    checkpoint_writer() noexcept = default;

    [[nodiscard]] text path_of(std::uint32_t shard) const noexcept { return detail::join_path(directory_, shard_file(shard)); }

    /// What the state file says while this is being written: everything that the files depend on.
    [[nodiscard]] text state_of(const fingerprint& identity) const noexcept {
        detail::fingerprint_maker maker;
        maker.add(identity.high);
        maker.add(identity.low);
        describe(maker);
        const fingerprint whole = maker.made();
        text state{"safefuse is writing a checkpoint here, or was: "};
        char digits[32];
        for (std::size_t i = 0; i < 32; ++i)
            digits[i] = "0123456789abcdef"[(i < 16 ? whole.high : whole.low) >> (60 - 4 * (i % 16)) & 15];
        return state.append(detail::characters_at(digits, sizeof digits)) && state.append("\n") ? std::move(state) : text{};
    }

    result<void> take_directory(const write_options& options) noexcept {
        const text state = state_of(options.identity);
        if (state.empty()) return failure{.code = errc::out_of_memory};
        if (auto fits = check_sizes(); !fits) return fits;
        const auto made = detail::make_directory(directory_);
        if (!made && made.error().code != errc::already_exists) return failure{made.error()};
        if (made && options.wait == durability::synced) {
            std::string_view path = directory_;
            while (path.size() > 1 && detail::os::is_separator(path.back())) path.remove_suffix(1);
            if (auto synced = detail::sync_directory(detail::directory_of(path)); !synced) return synced;
        }
        auto kind = detail::kind_of_path(directory_);
        if (!kind) return std::move(kind).error();
        if (*kind != detail::os::path_kind::directory) return failure{.code = errc::not_a_directory, .file = directory_};

        auto claim = detail::directory_claim::take(directory_, false);
        if (!claim && claim.error().code == errc::file_not_found) {
            if (auto vacant = check_vacant(false); !vacant) return vacant;  // nothing is made in a directory that is not ours
            claim = detail::directory_claim::take(directory_, true);
        }
        if (!claim) return std::move(claim).error();
        auto found = claim->read();
        if (!found) return std::move(found).error();
        if (found->view().starts_with(detail::replacing_state))
            return failure{.code = errc::destination_not_empty,
                           .file = directory_,
                           .detail = "an unfinished replacement is there; go on with it"};
        // a killed run may have left it empty: nothing was written then
        const bool begun = found->size() == state.size() && found->view().ends_with("\n");
        if (begun && !options.resume)
            return failure{.code = errc::destination_not_empty,
                           .file = directory_,
                           .detail = "an unfinished checkpoint is there; go on with it, or remove it"};
        if (begun && !(found->view() == state.view()))
            return failure{
                .code = errc::another_rewrite, .file = directory_, .detail = "finish that one, or remove what is there"};
        if (auto vacant = check_vacant(begun); !vacant) {
            if (found->size() == 0) claim->remove();
            return vacant;
        }
        claim_ = std::move(*claim);  // from here on the destructor cleans up
        if (begun)
            if (auto found_shards = find_done_shards(); !found_shards) return found_shards;
        if (options.check_free_space)
            if (auto fits = check_free_space(); !fits) return fits;
        return begun ? result<void>{} : claim_.write(state, wait_);
    }

    /// Nothing of a checkpoint is in the directory, but for this one's own files if `own_allowed`.
    [[nodiscard]] result<void> check_vacant(bool own_allowed) const noexcept {
        failure occupied{.code = errc::destination_not_empty, .file = directory_};
        detail::name_table own;
        vector<text> names;
        const auto name_of = [&](std::uint32_t i) noexcept { return names[i].view(); };
        for (std::uint32_t shard = 0; own_allowed && shard < shard_count(); ++shard)
            if (!names.push(shard_file(shard))) return failure{.code = errc::out_of_memory};
        if (!own.reserve(names.size())) return failure{.code = errc::out_of_memory};
        for (std::uint32_t i = 0; i < names.size(); ++i) static_cast<void>(own.insert(names[i], i, name_of));
        auto listed = detail::list_directory(directory_, [&](std::string_view name, bool is_directory) noexcept {
            if (is_directory || name.starts_with('.') ||
                !(name.ends_with(tensor_file_ending) || name.ends_with(shard_index_ending)))
                return true;
            if (own_allowed && (name == index_file || own.find(name, name_of) != detail::name_table::npos)) return true;
            detail::append_quoted(occupied.detail, name);
            occupied.detail.append(" is there");
            return false;
        });
        if (!listed) return listed;
        if (!occupied.detail.empty()) return occupied;
        return {};
    }

    /// Removes what a killed run has left half-written, and looks at what it has finished.
    result<void> find_done_shards() noexcept {
        vector<text> unfinished;
        bool has_room = true;
        auto listed = detail::list_directory(directory_, [&](std::string_view name, bool is_directory) noexcept {
            if (!is_directory && detail::is_unfinished(name)) has_room = unfinished.push(detail::join_path(directory_, name));
            return has_room;
        });
        if (!listed) return listed;
        if (!has_room) return failure{.code = errc::out_of_memory, .file = directory_};
        for (const text& each : unfinished)
            if (auto removed = detail::remove_file(each); !removed) return removed;
        for (std::uint32_t shard = 0; shard < shard_count(); ++shard) {
            auto whole = is_whole(shard);
            if (!whole) return std::move(whole).error();
            done_[shard] = *whole;
            if (!*whole || wait_ != durability::synced) continue;
            const text path = path_of(shard);  // the other run may not have waited
            if (const auto came = detail::os::sync_path(path.c_str()); !came) return came.about(path);
        }
        return {};
    }

    [[nodiscard]] result<bool> is_whole(std::uint32_t shard) const noexcept {
        const text path = path_of(shard);
        auto file = detail::open_file::open(path);
        if (!file && (file.error().code == errc::file_not_found || file.error().code == errc::not_a_file)) return false;
        if (!file) return std::move(file).error();
        auto header = header_of(shard);
        if (!header) return std::move(header).error();
        if (file->size_bytes() != header->file_bytes) return false;
        vector<std::byte> start;
        if (!start.resize_unset(header->bytes.size())) return failure{.code = errc::out_of_memory, .file = path};
        if (auto read = file->read(0, start.view()); !read) return std::move(read).error();
        return std::memcmp(start.data(), header->bytes.data(), start.size()) == 0;
    }

    /// This process may write files as large as the largest one.
    [[nodiscard]] result<void> check_sizes() const noexcept {
        if (detail::os::largest_file_bytes() == unknown) return {};
        for (std::uint32_t shard = 0; shard < shard_count(); ++shard) {
            auto header = header_of(shard);
            if (!header) return std::move(header).error();
            if (auto fits = detail::check_file_size_limit(path_of(shard), header->file_bytes); !fits) return fits;
        }
        return {};
    }

    [[nodiscard]] result<void> check_free_space() const noexcept {
        auto encoded = index();
        if (!encoded) return std::move(encoded).error();
        std::uint64_t needed = encoded->size();
        if (!detail::checked_add(needed, other_bytes_, needed)) return failure{.code = errc::size_overflow, .file = directory_};
        for (std::uint32_t shard = 0; shard < shard_count(); ++shard) {
            auto header = header_of(shard);
            if (!header) return std::move(header).error();
            if (!done_[shard] && !detail::checked_add(needed, header->file_bytes, needed))
                return failure{.code = errc::size_overflow, .file = directory_};
        }
        auto free_bytes = free_space_bytes(directory_);
        if (!free_bytes) return std::move(free_bytes).error();
        if (*free_bytes >= needed) return {};
        return failure{.code = errc::disk_full,
                       .file = directory_,
                       .detail = "nothing was written",
                       .expected = needed,
                       .actual = *free_bytes};
    }

    text directory_;
    durability wait_ = durability::synced;
    bool reserve_ = true;
    std::uint64_t other_bytes_ = 0;
    bool keep_state_ = false;
    std::uint32_t permissions_ = detail::os::file_permissions;
    vector<bool> done_;
    detail::directory_claim claim_;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
