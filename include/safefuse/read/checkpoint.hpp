// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the tensor files of a checkpoint as one set of named tensors, with or without a shard
// index.
#ifndef SAFEFUSE_READ_CHECKPOINT_HPP
#define SAFEFUSE_READ_CHECKPOINT_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/first_bytes.hpp>
#include <safefuse/format/header.hpp>
#include <safefuse/format/read_options.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/detail/open_file.hpp>
#include <safefuse/io/detail/path.hpp>
#include <safefuse/io/mapped_file.hpp>
#include <safefuse/io/positional_file.hpp>
#include <safefuse/read/any_source.hpp>
#include <safefuse/read/checkpoint_report.hpp>
#include <safefuse/read/detail/locate.hpp>
#include <safefuse/read/detail/shard_index_text.hpp>
#include <safefuse/read/tensor_file.hpp>
#include <safefuse/tensor/byte_source.hpp>
#include <safefuse/tensor/tensor_range.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The largest number of files whose handles a checkpoint keeps open: systems allow a process 256
/// to 1,024 of them. In a checkpoint with more files, each file is opened again when it is read by
/// offset or checked, and files cannot be shared or linked.
inline constexpr std::size_t most_open_files = 200;

/// Options for opening a checkpoint.
struct checkpoint_options {
    read_options read{};  ///< of every header
    /// Whether tensors that a shard contains and the index does not list are part of the
    /// checkpoint. transformers loads them, so they are by default, and no rewrite loses them.
    bool show_unlisted = true;
    /// Which variant of a directory is read: fp16 for model.safetensors.index.fp16.json and the
    /// other spellings. Empty: files without a variant, and a variant only if there is nothing
    /// else.
    std::string_view variant{};
};

namespace detail {

/// The data of a checkpoint. It is allocated separately, so its address stays the same when the
/// checkpoint is moved.
template <byte_source Source>
struct checkpoint_tables {
    struct row {
        std::string_view name;  // a copy, so that a search does not need the file's header
        std::uint32_t file;
        std::uint32_t entry;
    };

    vector<basic_tensor_file<Source>> files;
    vector<row> rows;
    name_table names;
    std::size_t unlisted_count = 0;
    text index_path;

    [[nodiscard]] tensor_entry entry(std::size_t i) const noexcept {
        return files[rows[i].file][rows[i].entry];
    }
};

}  // namespace detail

/// The tensors of a checkpoint as a tensor set that stays valid when the checkpoint moves. Plans
/// store one.
///   lifetime  until the content of the checkpoint is destroyed; it may be moved to another
///             checkpoint object
template <class Source>
class checkpoint_view {
public:
    /// @{
    /// Like the members of these names in the checkpoint.
    [[nodiscard]] std::size_t size() const noexcept {
        return tables_ == nullptr ? 0 : tables_->rows.size();
    }
    [[nodiscard]] tensor_spec spec(std::size_t i) const noexcept { return tables_->entry(i); }
    [[nodiscard]] tensor_location place(std::size_t i) const noexcept {
        const auto& at = tables_->rows[i];
        return {at.file, tables_->files[at.file].offset_bytes(at.entry),
                tables_->entry(i).size_bytes()};
    }
    [[nodiscard]] std::string_view source_name(std::uint32_t source) const noexcept {
        return tables_->files[source].path();
    }
    [[nodiscard]] span<const std::byte> source_bytes(std::uint32_t source) const noexcept {
        return tables_->files[source].source_bytes(0);
    }
    result<void> read(std::uint32_t source, std::uint64_t offset,
                      span<std::byte> out) const noexcept {
        return tables_->files[source].read(0, offset, out);
    }
    void advise(std::uint32_t source, std::uint64_t offset, std::uint64_t size_bytes,
                advice hint) const noexcept {
        tables_->files[source].advise(0, offset, size_bytes, hint);
    }
    [[nodiscard]] std::intptr_t native_handle(std::uint32_t source) const noexcept {
        return tables_->files[source].native_handle(0);
    }
    [[nodiscard]] result<void> check(std::uint32_t source) const noexcept {
        return tables_->files[source].check(0);
    }
    /// @}

private:
    template <class>
    friend class basic_checkpoint;
    explicit checkpoint_view(const detail::checkpoint_tables<Source>* tables) noexcept
        : tables_{tables} {}

    const detail::checkpoint_tables<Source>* tables_;  // null if the checkpoint was moved from
};

/// The tensors of a directory, a shard index or a single file, numbered by file and offset. It is a
/// tensor_set. A path may name an index, a tensor file or a directory. In a directory the first of
/// these is used: its only *.safetensors.index.json, model.safetensors, the only .safetensors file,
/// one complete numbered series. The index decides which file contains which tensor. Tensors of a
/// shard that the index does not list are part of the checkpoint unless
/// checkpoint_options::show_unlisted is false. Files that the index does not name are not part of
/// it.
///   lifetime  views, names and plans are valid until the checkpoint is destroyed, even if it is
///           moved. A moved-from checkpoint has no tensors
///   handles   one open file handle per file; none if there are more than most_open_files files
template <class Source>
class basic_checkpoint {
public:
    static_assert(byte_source<Source>,
                  "safefuse: the source of a checkpoint's files is not a byte_source");

    /// The type of an open file.
    using file_type = basic_tensor_file<Source>;
    /// Returned by a search if there is no such tensor.
    static constexpr std::size_t npos = ~std::size_t{0};
    /// Views of a temporary checkpoint do not compile.
    static constexpr bool lends_views = true;

    /// Opens all files and checks the headers and the index against each other. It reads no tensor
    /// bytes. It stops at the first problem; verify() finds all of them.
    ///   fails   no_checkpoint, several_indexes, incomplete_series, bad_json, bad_index,
    ///           path_leaves_directory, missing_shard, tensor_not_in_shard, tensor_in_two_shards
    ///           (without an index), and as tensor_file::open
    static result<basic_checkpoint> open(std::string_view path,
                                         const checkpoint_options& options = {}) noexcept
        requires file_source<Source>
    {
        return open_with(path, options, nullptr);
    }

    /// Opens a checkpoint and stores in `report` everything that verify() reports, without reading
    /// the headers twice. On failure `report` is unchanged.
    ///   fails   as open without a report
    static result<basic_checkpoint> open(std::string_view path, const checkpoint_options& options,
                                         checkpoint_report& report) noexcept
        requires file_source<Source>
    {
        checkpoint_report fresh;
        auto made = open_with(path, options, &fresh);
        if (made) report = std::move(fresh);
        return made;
    }

    /// Makes a checkpoint from files that the caller opened, with sources of any kind, and an
    /// index. Headers and index are checked against each other as in open(). A name in the index
    /// belongs to the file whose path() equals it or, if there is none, ends with it after a `/` or
    /// `\`: "https://host/model-00001-of-00002.safetensors".
    ///   files     a list of file_type, passed with std::move(files). Files that the index names
    ///           are moved from, even if the call fails
    ///   options   only show_unlisted is used
    ///   lifetime  the index and its text need not outlive the call
    ///   fails     missing_shard (no file fits a name), tensor_in_two_shards (two files fit a
    ///           name), tensor_not_in_shard, out_of_memory
    template <class Files>
    static result<basic_checkpoint> from(const shard_index& index, Files&& files,
                                         const checkpoint_options& options = {}) noexcept {
        return take_files(&index, taken<Files>(files), options);
    }
    /// Deleted: the index is a result. Check whether it failed, then pass *index.
    template <class Files>
    static result<basic_checkpoint> from(const result<shard_index>&, Files&&,
                                         const checkpoint_options& = {}) = delete;
    /// Makes a checkpoint without an index: it contains every tensor of every file.
    ///   fails     no_checkpoint (no file is given), tensor_in_two_shards, out_of_memory
    template <class Files>
    static result<basic_checkpoint> from(Files&& files) noexcept {
        return take_files(nullptr, taken<Files>(files), {});
    }

    /// Finds all problems of a checkpoint, even if open() fails. It reads headers but no tensor
    /// bytes, and has one file open at a time.
    ///   fails   out_of_memory; all other problems are in the report
    static result<checkpoint_report> verify(std::string_view path,
                                            const checkpoint_options& options = {}) noexcept
        requires file_source<Source>
    {
        checkpoint_report report;
        detail::resolved_checkpoint found;
        if (auto done = detail::resolve_checkpoint(path, options.variant, found); !done) {
            if (done.error().code == errc::out_of_memory || !report.add(std::move(done).error()))
                return detail::lack_of_memory_for{path};
        }
        const bool has_room = found.index.empty() ? verify_files(found, options, report)
                                                  : verify_index(found, options, report);
        if (!has_room) return detail::lack_of_memory_for{path};
        return report;
    }

    /// The path of the shard index in use; empty if there is none.
    [[nodiscard]] std::string_view index_path() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return tables_.empty() ? std::string_view{} : tables_[0].index_path.view();
    }
    /// The number of files.
    [[nodiscard]] std::size_t file_count() const noexcept {
        return tables_.empty() ? 0 : tables_[0].files.size();
    }
    /// File i of the checkpoint, with all its tensors, listed or not.
    [[nodiscard]] const file_type& file(std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return tables_[0].files[i];
    }
    /// The number of tensors that are in the files but not in the index.
    [[nodiscard]] std::size_t unlisted_count() const noexcept {
        return tables_.empty() ? 0 : tables_[0].unlisted_count;
    }

    /// The tensor set that plans store in place of the checkpoint. It stays valid when the
    /// checkpoint moves.
    ///   lifetime  until the content of the checkpoint is destroyed; it may be moved to another
    ///             checkpoint object
    [[nodiscard]] checkpoint_view<Source> stable_view() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return checkpoint_view<Source>{tables_.begin()};
    }

    /// The number of tensors.
    [[nodiscard]] std::size_t size() const noexcept { return stable_view().size(); }
    /// Name, dtype and shape of tensor i.
    ///   lifetime  until the checkpoint is destroyed
    [[nodiscard]] tensor_spec spec(std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return tables_[0].entry(i);
    }
    /// @{
    /// For range-based loops over name, dtype and shape of every tensor: `for (const
    /// sf::tensor_spec& each : *checkpoint)`.
    [[nodiscard]] tensor_iterator<basic_checkpoint> begin() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return {*this, 0};
    }
    [[nodiscard]] tensor_iterator<basic_checkpoint> end() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return {*this, size()};
    }
    /// @}
    /// The names of all tensors.
    ///   lifetime  until the checkpoint moves or ends
    [[nodiscard]] tensor_names<basic_checkpoint> names() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return tensor_names<basic_checkpoint>{*this};
    }
    /// The place of tensor i: `source` is the number of its file, `offset` counts from the start of
    /// the file.
    [[nodiscard]] tensor_location place(std::size_t i) const noexcept {
        return stable_view().place(i);
    }
    /// The path of a file.
    [[nodiscard]] std::string_view source_name(std::uint32_t source) const& noexcept
        SAFEFUSE_LIFETIMEBOUND {
        return tables_[0].files[source].path();
    }
    /// The bytes of a file, or an empty span if they must be read.
    [[nodiscard]] span<const std::byte> source_bytes(std::uint32_t source) const& noexcept
        SAFEFUSE_LIFETIMEBOUND {
        return tables_[0].files[source].source_bytes(0);
    }
    /// Fills `out` from byte `offset` of a file.
    ///   fails   as Source::read
    result<void> read(std::uint32_t source, std::uint64_t offset,
                      span<std::byte> out) const noexcept {
        return stable_view().read(source, offset, out);
    }
    /// Tells the system how a range of a file will be used.
    void advise(std::uint32_t source, std::uint64_t offset, std::uint64_t size_bytes,
                advice hint) const noexcept {
        stable_view().advise(source, offset, size_bytes, hint);
    }
    /// The system's handle of an open file; no_native_handle for sources without one.
    [[nodiscard]] std::intptr_t native_handle(std::uint32_t source) const noexcept {
        return stable_view().native_handle(source);
    }
    /// Checks that a file still has the size it had when it was opened. Sources that cannot tell
    /// always succeed.
    ///   fails   file_changed (with both sizes), io_error
    [[nodiscard]] result<void> check(std::uint32_t source) const noexcept {
        return stable_view().check(source);
    }

    /// The index of the tensor with this name, or npos.
    [[nodiscard]] std::size_t index_of(std::string_view name) const noexcept {
        if (tables_.empty()) return npos;
        const std::uint32_t i = tables_[0].names.find(name, name_of{tables_[0].rows.data()});
        return i == detail::name_table::npos ? npos : i;
    }

    /// A view of tensor i, without a copy.
    ///   fails   as tensor_file::view: not_resident (the source is not in memory: use read()),
    ///           read_past_end
    [[nodiscard]] result<tensor_view> view(std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return file_of(i).view(entry_of(i));
    }
    /// A view of the tensor with this name, without a copy.
    ///   fails   tensor_not_found, and as view
    [[nodiscard]] result<tensor_view> find(std::string_view name) const& noexcept
        SAFEFUSE_LIFETIMEBOUND {
        const std::size_t i = index_of(name);
        if (i == npos) return absent(name);
        return view(i);
    }

    // Deleted: views of a temporary checkpoint would dangle.
    std::string_view index_path() const&& = delete;
    const file_type& file(std::size_t) const&& = delete;
    tensor_spec spec(std::size_t) const&& = delete;
    tensor_iterator<basic_checkpoint> begin() const&& = delete;
    tensor_iterator<basic_checkpoint> end() const&& = delete;
    tensor_names<basic_checkpoint> names() const&& = delete;
    std::string_view source_name(std::uint32_t) const&& = delete;
    span<const std::byte> source_bytes(std::uint32_t) const&& = delete;
    result<tensor_view> view(std::size_t) const&& = delete;
    result<tensor_view> find(std::string_view) const&& = delete;
    checkpoint_view<Source> stable_view() const&& = delete;

    /// Copies tensor i.
    ///   fails   wrong_buffer_size (`out` must have the tensor's size; it is then unchanged), and
    ///           as Source::read
    result<void> read(std::size_t i, span<std::byte> out) const noexcept {
        return file_of(i).read(entry_of(i), out);
    }
    /// Copies the tensor with this name.
    ///   fails   tensor_not_found, and as above
    result<void> read(std::string_view name, span<std::byte> out) const noexcept {
        const std::size_t i = index_of(name);
        if (i == npos) return absent(name);
        return read(i, out);
    }

    /// Copies a slice of tensor i and reads no other bytes.
    ///   fails   as slice_runs::of; wrong_buffer_size (`out` must have the slice's size; it is then
    ///           unchanged); as Source::read
    result<void> read_slice(std::size_t i, span<const axis_range> ranges,
                            span<std::byte> out) const noexcept {
        return file_of(i).read_slice(entry_of(i), ranges, out);
    }
    /// Copies a slice of the tensor with this name.
    ///   fails   tensor_not_found, and as above
    result<void> read_slice(std::string_view name, span<const axis_range> ranges,
                            span<std::byte> out) const noexcept {
        const std::size_t i = index_of(name);
        if (i == npos) return absent(name);
        return read_slice(i, ranges, out);
    }

private:
    static constexpr std::uint32_t unlisted = detail::name_table::npos;

    using tables = detail::checkpoint_tables<Source>;
    using row = typename tables::row;
    struct name_of {
        const row* rows;
        std::string_view operator()(std::uint32_t i) const noexcept { return rows[i].name; }
    };

    [[nodiscard]] const file_type& file_of(std::size_t i) const noexcept {
        return tables_[0].files[tables_[0].rows[i].file];
    }
    [[nodiscard]] std::size_t entry_of(std::size_t i) const noexcept {
        return tables_[0].rows[i].entry;
    }
    [[nodiscard]] failure absent(std::string_view name) const noexcept {
        return {.code = errc::tensor_not_found, .file = index_path(), .tensor = name};
    }

    template <class Files>
    static span<file_type> taken(std::remove_reference_t<Files>& files) noexcept {
        constexpr bool is_list =
            std::is_constructible_v<span<file_type>, std::remove_reference_t<Files>&>;
        static_assert(is_list, "safefuse: the files of a checkpoint are a list of its file_type");
        static_assert(!std::is_lvalue_reference_v<Files>,
                      "safefuse: a checkpoint takes its files over: std::move(files)");
        if constexpr (is_list)
            return span<file_type>{files};
        else
            return {};
    }

    static result<basic_checkpoint> take_files(const shard_index* index, span<file_type> files,
                                               const checkpoint_options& options) noexcept {
        basic_checkpoint made;
        if (!made.tables_.reserve(1) || !made.tables_.push({})) return no_memory_for({});
        auto done =
            index != nullptr ? made.join(*index, files, options.show_unlisted) : made.join(files);
        if (!done) return std::move(done).error();
        return made;
    }

    result<void> join(const shard_index& index, span<file_type> files,
                      bool show_unlisted) noexcept {
        if (index.size() == 0) return detail::empty_index({});
        tables& to = tables_[0];
        index_rows rows;
        if (!rows.fill(index) || !to.files.reserve(index.file_count()) ||
            !to.rows.reserve(index.size()))
            return no_memory_for({});
        for (std::size_t f = 0; f < index.file_count(); ++f) {
            auto found = file_named(index.file(f), rows.first_of(index, f), files);
            if (!found) return std::move(found).error();
            file_type& file = files[*found];
            if (auto added = add_rows(index, f, file, show_unlisted, rows); !added) return added;
            if (!to.files.push(std::move(file))) return no_memory_for(index.file(f));
        }
        return number_names({});
    }

    result<void> join(span<file_type> files) noexcept {
        tables& to = tables_[0];
        if (files.empty())
            return failure{.code = errc::no_checkpoint, .detail = "there is no file in the list"};
        if (!to.files.reserve(files.size())) return no_memory_for({});
        for (file_type& file : files)
            if (!add_rows(file) || !to.files.push(std::move(file))) return no_memory_for({});
        return number_names({});
    }

    /// The number of the file that a name in the index belongs to: by the whole path or, if none is
    /// equal, by the end of the path.
    ///   fails   missing_shard, tensor_in_two_shards
    static result<std::size_t> file_named(std::string_view name, std::string_view first_tensor,
                                          span<const file_type> files) noexcept {
        const auto is_separator = [](char c) noexcept { return c == '/' || c == '\\'; };
        std::size_t found = npos;
        for (std::size_t i = 0; i < files.size(); ++i)
            if (files[i].path() == name) return i;
        for (std::size_t i = 0; i < files.size(); ++i) {
            const std::string_view path = files[i].path();
            if (!path.ends_with(name) || !is_separator(path[path.size() - name.size() - 1]))
                continue;
            if (found != npos) {
                failure two{
                    .code = errc::tensor_in_two_shards, .file = path, .tensor = first_tensor};
                two.detail.append("the index's ");
                detail::append_quoted(two.detail, name);
                two.detail.append(" may also be ");
                detail::append_quoted(two.detail, files[found].path());
                return two;
            }
            found = i;
        }
        if (found == npos)
            return failure{.code = errc::missing_shard,
                           .file = name,
                           .tensor = first_tensor,
                           .detail = "no file in the list has that name"};
        return found;
    }

    /// Adds the rows of a file without an index. Returns false if memory runs out.
    bool add_rows(const file_type& file) noexcept {
        tables& to = tables_[0];
        if (!to.rows.reserve(to.rows.size() + file.size())) return false;
        for (std::size_t at = 0; at < file.size(); ++at)
            if (!to.rows.push({file[at].name, static_cast<std::uint32_t>(to.files.size()),
                               static_cast<std::uint32_t>(at)}))
                return false;
        return true;
    }

    // `report` is a checkpoint_report* or nullptr. With nullptr, the code that makes reports is not
    // linked.
    template <class Report>
    SAFEFUSE_NOINLINE static result<basic_checkpoint> open_with(std::string_view path,
                                                                const checkpoint_options& options,
                                                                Report report) noexcept {
        detail::resolved_checkpoint found;
        if (auto done = detail::resolve_checkpoint(path, options.variant, found); !done)
            return std::move(done).error();
        basic_checkpoint made;
        if (!made.tables_.reserve(1) || !made.tables_.push({}))
            return detail::lack_of_memory_for{path};
        auto done = found.index.empty() ? made.open_files(found, options, report)
                                        : made.open_index(found, options, report);
        if (!done) return std::move(done).error();
        made.tables_[0].index_path = std::move(found.index);
        return made;
    }

    /// Adds one of `file_count` files. Returns false if memory runs out.
    bool keep(file_type&& file, std::size_t file_count) noexcept {
        if (file_count > most_open_files) file.close_handle();
        return tables_[0].files.push(std::move(file));
    }

    /// The tensors of an index, while its files are added one by one.
    struct index_rows {
        detail::tensors_by_file listed;
        vector<std::uint32_t> number_of;  // by tensor of one file: its number in the index
        vector<std::uint32_t> row_of;     // by tensor of the index: its row
        bool shows_unlisted = false;      // there is a row of a tensor that the index lacks

        [[nodiscard]] bool fill(const shard_index& index) noexcept {
            return index.size() < unlisted && listed.fill(index) &&
                   row_of.resize_unset(index.size());
        }
        /// The first tensor that the index lists for a file. Empty: there is none.
        [[nodiscard]] std::string_view first_of(const shard_index& index,
                                                std::size_t f) const noexcept {
            const span<const std::uint32_t> tensors = listed.of(f);
            return tensors.empty() ? std::string_view{} : index.tensor(tensors[0]);
        }
    };

    /// Adds the rows of file `f` of an index. Files must be added in order.
    ///   fails   tensor_not_in_shard, out_of_memory
    result<void> add_rows(const shard_index& index, std::size_t f, const file_type& file,
                          bool show_unlisted, index_rows& rows) noexcept {
        tables& to = tables_[0];
        const span<const std::uint32_t> tensors = rows.listed.of(f);
        rows.number_of.clear();
        if (!rows.number_of.resize(file.size(), unlisted)) return no_memory_for(file.path());
        for (const std::uint32_t i : tensors) {
            const std::size_t at = file.index_of(index.tensor(i));
            if (at == file_type::npos) return not_in_shard(file.path(), index.tensor(i));
            rows.number_of[at] = i;
        }
        for (std::size_t at = 0; at < rows.number_of.size(); ++at) {
            const std::uint32_t number = rows.number_of[at];
            const std::string_view name = file[at].name;
            if (number == unlisted) {
                if (!show_unlisted || index.find(name) != shard_index::npos) continue;
                rows.shows_unlisted = true;
            } else {
                rows.row_of[number] = static_cast<std::uint32_t>(to.rows.size());
            }
            if (!to.rows.push(
                    {name, static_cast<std::uint32_t>(f), static_cast<std::uint32_t>(at)}))
                return no_memory_for(file.path());
        }
        to.unlisted_count += file.size() - tensors.size();
        return {};
    }

    [[nodiscard]] SAFEFUSE_COLD static failure not_in_shard(std::string_view file,
                                                            std::string_view tensor) noexcept {
        return {.code = errc::tensor_not_in_shard, .file = file, .tensor = tensor};
    }
    [[nodiscard]] static auto no_memory_for(std::string_view file) noexcept {
        return detail::lack_of_memory_for{file};
    }

    template <class Report>
    result<void> open_index(const detail::resolved_checkpoint& found,
                            const checkpoint_options& options, Report report) noexcept {
        tables& to = tables_[0];
        const auto no_memory = no_memory_for(found.index);
        const auto json = detail::index_text<Source>::open(found.index);  // the index refers to it
        if (!json) return json.error();
        auto index = shard_index::parse(json->bytes());
        if (!index) return detail::index_failure(index.error(), found.index, json->bytes());
        if (index->size() == 0) return detail::empty_index(found.index);
        index_rows rows;
        if (!rows.fill(*index) || !to.files.reserve(index->file_count()) ||
            !to.rows.reserve(index->size()))
            return no_memory;
        for (std::size_t f = 0; f < index->file_count(); ++f) {
            const text path = detail::join_path(found.directory, index->file(f));
            if (path.empty()) return no_memory;
            auto opened = file_type::open(path, options.read);
            if (!opened)
                return detail::shard_failure(std::move(opened).error(), found.index,
                                             rows.first_of(*index, f));
            if (auto added = add_rows(*index, f, *opened, options.show_unlisted, rows); !added)
                return added;
            if constexpr (!std::is_null_pointer_v<Report>)
                if (!note_shard(*opened, rows.number_of.view(), *index, *report)) return no_memory;
            if (!keep(std::move(*opened), index->file_count())) return no_memory;
        }
        if constexpr (!std::is_null_pointer_v<Report>)
            if (!note_index(found, *index, *report)) return no_memory;
        if (rows.shows_unlisted) return number_names(found.directory);
        // the headers contain the same names, so the index can go
        to.names = detail::take_names(std::move(*index), rows.row_of.view());
        return {};
    }

    template <class Report>
    result<void> open_files(const detail::resolved_checkpoint& found,
                            const checkpoint_options& options, Report report) noexcept {
        tables& to = tables_[0];
        const detail::lack_of_memory_for no_memory{found.directory};
        if (!to.files.reserve(found.files.size())) return no_memory;
        for (const text& path : found.files) {
            auto opened = file_type::open(path, options.read);
            if (!opened) return std::move(opened).error();
            if constexpr (!std::is_null_pointer_v<Report>)
                if (!note_file(*opened, *report)) return no_memory;
            if (!add_rows(*opened)) return no_memory;
            if (!keep(std::move(*opened), found.files.size())) return no_memory;
        }
        return number_names(found.directory);
    }

    result<void> number_names(std::string_view directory) noexcept {
        tables& to = tables_[0];
        const auto no_memory = no_memory_for(directory);
        if (to.rows.size() >= detail::name_table::npos || !to.names.reserve(to.rows.size()))
            return no_memory;
        for (std::uint32_t i = 0; i < to.rows.size(); ++i) {
            const auto added = to.names.insert(to.rows[i].name, i, name_of{to.rows.data()});
            if (added.what == detail::name_table::outcome::out_of_memory) return no_memory;
            if (added.what == detail::name_table::outcome::already_there)
                return in_two_shards(to.rows[i].name, source_name(to.rows[i].file),
                                     source_name(to.rows[added.index].file));
        }
        return {};
    }

    [[nodiscard]] static failure in_two_shards(std::string_view tensor, std::string_view file,
                                               std::string_view first_file) noexcept {
        failure why{.code = errc::tensor_in_two_shards,
                    .file = file,
                    .tensor = tensor,
                    .detail = "it is also in "};
        detail::append_quoted(why.detail, detail::file_name_of(first_file));
        return why;
    }

    // Each of these returns false if memory runs out.

    static bool verify_index(const detail::resolved_checkpoint& found,
                             const checkpoint_options& options,
                             checkpoint_report& report) noexcept {
        const auto json = detail::index_text<Source>::open(found.index);
        if (!json)
            return json.error().code != errc::out_of_memory && report.add(failure{json.error()});
        vector<failure> problems;
        const auto index = shard_index::parse(json->bytes(), problems);
        for (std::size_t p = 0; p < problems.size(); ++p) {
            failure& each = problems[p];
            if (each.code == errc::out_of_memory) continue;  // already reported
            each.file = found.index;
            if (!detail::tell_once(problems, p) || !report.add(std::move(each))) return false;
        }
        if (!index) {
            failure why = detail::index_failure(index.error(), found.index, json->bytes());
            return why.code != errc::out_of_memory && report.add(std::move(why));
        }
        if (index->size() == 0 && problems.empty())
            return report.add(detail::empty_index(found.index));

        detail::tensors_by_file listed;
        if (!listed.fill(*index)) return false;
        bool all_found = problems.empty();
        for (std::size_t f = 0; f < index->file_count(); ++f) {
            const std::size_t failures_before = report.failures_.size();
            if (!verify_shard(found, options, *index, f, listed.of(f), report)) return false;
            all_found = all_found && report.failures_.size() == failures_before;
        }
        return all_found ? note_index(found, *index, report)
                         : note_unused_files(found, *index, report);
    }

    /// Reports notes about an index whose tensors were all found.
    static bool note_index(const detail::resolved_checkpoint& found, const shard_index& index,
                           checkpoint_report& report) noexcept {
        if (index.total_size_bytes() != unknown &&
            index.total_size_bytes() != report.tensor_bytes_ &&
            !report.add(checkpoint_note{.what = checkpoint_note::kind::total_size_differs,
                                        .file = found.index,
                                        .expected = index.total_size_bytes(),
                                        .actual = report.tensor_bytes_}))
            return false;
        return note_unused_files(found, index, report);
    }

    static bool verify_shard(const detail::resolved_checkpoint& found,
                             const checkpoint_options& options, const shard_index& index,
                             std::size_t f, span<const std::uint32_t> tensors,
                             checkpoint_report& report) noexcept {
        const text path = detail::join_path(found.directory, index.file(f));
        if (path.empty()) return false;
        auto opened = file_type::open(path, options.read);
        if (!opened)
            return opened.error().code != errc::out_of_memory &&
                   report.add(detail::shard_failure(
                       std::move(opened).error(), found.index,
                       tensors.empty() ? std::string_view{} : index.tensor(tensors[0])));
        vector<std::uint32_t> number_of;
        if (!number_of.resize(opened->size(), unlisted)) return false;
        for (const std::uint32_t i : tensors) {
            const std::size_t at = opened->index_of(index.tensor(i));
            if (at != file_type::npos)
                number_of[at] = i;
            else if (!report.add(failure{.code = errc::tensor_not_in_shard,
                                         .file = path,
                                         .tensor = index.tensor(i)}))
                return false;
        }
        return note_shard(*opened, number_of.view(), index, report);
    }

    /// Counts the tensors of a shard and adds notes about it. `number_of` gives the index numbers
    /// of its tensors.
    static bool note_shard(const file_type& file, span<const std::uint32_t> number_of,
                           const shard_index& index, checkpoint_report& report) noexcept {
        ++report.file_count_;
        checkpoint_note none{
            .what = checkpoint_note::kind::unlisted_tensors, .file = file.path(), .count = 0};
        checkpoint_note other{
            .what = checkpoint_note::kind::superseded_tensors, .file = file.path(), .count = 0};
        for (std::size_t at = 0; at < number_of.size(); ++at) {
            if (number_of[at] != unlisted) {
                ++report.tensor_count_;
                report.count_bytes(file[at].size_bytes());
                continue;
            }
            checkpoint_note& note = index.find(file[at].name) == shard_index::npos ? none : other;
            if (note.count++ == 0) note.tensor = file[at].name;
        }
        return report.add_tolerated(file.path(), file.header()) &&
               (none.count == 0 || report.add(std::move(none))) &&
               (other.count == 0 || report.add(std::move(other)));
    }

    /// Like note_shard, for a file without an index.
    static bool note_file(const file_type& file, checkpoint_report& report) noexcept {
        ++report.file_count_;
        report.tensor_count_ += file.size();
        report.count_bytes(file.header().data_bytes() - file.header().gap_bytes());
        return report.add_tolerated(file.path(), file.header());
    }

    static bool note_unused_files(const detail::resolved_checkpoint& found,
                                  const shard_index& index, checkpoint_report& report) noexcept {
        vector<text> unused;
        detail::name_table used;
        bool has_room = used.reserve(index.file_count());
        const auto used_name = [&](std::uint32_t f) noexcept {
            std::string_view name = index.file(f);
            while (name.starts_with("./")) name.remove_prefix(2);
            return name;
        };
        for (std::uint32_t f = 0; has_room && f < index.file_count(); ++f)
            has_room = used.insert(used_name(f), f, used_name).what !=
                       detail::name_table::outcome::out_of_memory;
        if (!has_room) return false;
        // Ignored: the files of a directory that cannot be listed were handled above.
        (void)detail::list_directory(
            found.directory, [&](std::string_view name, bool is_directory) noexcept {
                if (is_directory || name.starts_with('.') || !name.ends_with(tensor_file_ending))
                    return true;
                if (used.find(name, used_name) != detail::name_table::npos) return true;
                text copy{name};
                has_room = copy.size() == name.size() && unused.push(std::move(copy));
                return has_room;
            });
        if (!has_room || !detail::sort_naturally(unused)) return false;
        for (const text& name : unused) {
            text path = detail::join_path(found.directory, name);
            if (path.empty() ||
                !report.add(checkpoint_note{.what = checkpoint_note::kind::unused_file,
                                            .file = std::move(path)}))
                return false;
        }
        return true;
    }

    static bool verify_files(const detail::resolved_checkpoint& found,
                             const checkpoint_options& options,
                             checkpoint_report& report) noexcept {
        // One file is open at a time, so the names to compare are copied.
        struct seen {
            std::size_t first;
            std::uint32_t size;
            std::uint32_t file;
        };
        vector<char> names;
        vector<seen> tensors;
        detail::name_table table;
        const auto seen_name = [&](std::uint32_t i) noexcept {
            return detail::characters_at(names.data() + tensors[i].first, tensors[i].size);
        };
        for (std::size_t f = 0; f < found.files.size(); ++f) {
            auto opened = file_type::open(found.files[f], options.read);
            if (!opened) {
                if (opened.error().code == errc::out_of_memory ||
                    !report.add(std::move(opened).error()))
                    return false;
                continue;
            }
            if (!note_file(*opened, report)) return false;
            for (std::size_t at = 0; found.files.size() > 1 && at < opened->size(); ++at) {
                const std::string_view name = (*opened)[at].name;
                const std::uint32_t number = static_cast<std::uint32_t>(tensors.size());
                if (!tensors.push({names.size(), static_cast<std::uint32_t>(name.size()),
                                   static_cast<std::uint32_t>(f)}) ||
                    !names.append(name.data(), name.size()))
                    return false;
                const auto added = table.insert(name, number, seen_name);
                if (added.what == detail::name_table::outcome::out_of_memory) return false;
                if (added.what == detail::name_table::outcome::already_there &&
                    !report.add(in_two_shards(name, found.files[f],
                                              found.files[tensors[added.index].file])))
                    return false;
            }
        }
        return true;
    }

    basic_checkpoint() noexcept = default;

    // one element, or none after a move; elements do not move when the vector moves
    vector<tables> tables_;
};

/// A checkpoint whose files are mapped: views cost nothing.
///   caution   as mapped_file; open() also maps the shard index
using checkpoint = basic_checkpoint<mapped_file>;
/// A checkpoint whose files are read by offset.
using positional_checkpoint = basic_checkpoint<positional_file>;
/// A checkpoint of files with any source, including the caller's own: see from().
using any_checkpoint = basic_checkpoint<any_source>;

static_assert(tensor_set<checkpoint> && tensor_set<positional_checkpoint>);

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
