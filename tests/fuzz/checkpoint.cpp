// A directory of files: it is opened both ways and verified, and nothing outside it is read. The
// input is one record for each file: a byte for the kind, a byte for the size of the name, two
// bytes for the size of the content, the name, the content. Kind 1 is the JSON of a tensor file: it
// gets a frame and the data bytes that it asks for.
#include "fuzz.hpp"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include <safefuse/read/checkpoint.hpp>

#include "../support/oracle.hpp"
#include "../support/support.hpp"

namespace sf = safefuse;
namespace fs = std::filesystem;

namespace {

/// A file next to the checkpoint's directory that must never be read.
constexpr std::string_view secret = R"({"secret":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";

std::string file_name(std::string_view spelled) {
    std::string name;
    for (const char c : spelled.substr(0, 80)) {
        const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                              (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
        name += is_plain ? c : '_';
    }
    return name.find_first_not_of('.') == name.npos ? "file" : name;
}

void write(const std::string& path, std::string_view contents) {
    const int file = ::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    FUZZ_HOLD(file >= 0 && ::write(file, contents.data(), contents.size()) ==
                               static_cast<::ssize_t>(contents.size()));
    ::close(file);
}

template <class Checkpoint>
void hold_tensors(const Checkpoint& checkpoint, const sf::read_options& options) {
    for (std::size_t f = 0; f < checkpoint.file_count(); ++f) {
        const std::string_view fault = oracle::fault_of(
            checkpoint.file(f).header(), checkpoint.file(f).source().size_bytes(), options);
        fuzz::hold(fault.empty(), fault);
    }
    for (std::size_t i = 0; i < checkpoint.size(); ++i) {
        const sf::tensor_spec spec = checkpoint.spec(i);
        FUZZ_HOLD(spec.name != "secret");
        FUZZ_HOLD(checkpoint.index_of(spec.name) == i);
        const sf::tensor_location place = checkpoint.place(i);
        FUZZ_HOLD(place.source < checkpoint.file_count());
        const std::uint64_t file_bytes = checkpoint.file(place.source).source().size_bytes();
        FUZZ_HOLD(place.offset <= file_bytes && place.size_bytes <= file_bytes - place.offset);
        const auto view = checkpoint.view(i);
        const auto resident = checkpoint.source_bytes(place.source);
        FUZZ_HOLD(view.has_value() == !resident.empty());
        if (view && !view->bytes().empty()) {
            FUZZ_HOLD(view->bytes().data() == resident.data() + place.offset &&
                      view->size_bytes() == place.size_bytes);
            oracle::look_at(view->bytes().front());
            oracle::look_at(view->bytes().back());
        }
        std::vector<std::byte> bytes(static_cast<std::size_t>(place.size_bytes)), again(bytes);
        FUZZ_HOLD(checkpoint.read(i, bytes).has_value());
        FUZZ_HOLD(checkpoint.read(place.source, place.offset, again).has_value() && bytes == again);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const support::temporary_directory base;
    static const std::string directory = base / "checkpoint";
    if (static bool is_ready = false; !is_ready) {
        fs::create_directory(directory);
        write(base / "secret.safetensors", fuzz::file_of(secret, 4));
        is_ready = true;
    }

    fuzz::reader input{{reinterpret_cast<const char*>(data), size}};
    std::vector<std::string> written;
    while (!input.empty() && written.size() < 8) {
        const std::uint8_t kind = input.byte();
        const std::size_t name_bytes = input.byte();
        const std::size_t low = input.byte(), high = input.byte();
        written.push_back(directory + '/' + file_name(input.take(name_bytes)));
        const std::string_view content = input.take(low | high << 8);
        write(written.back(), kind == 1 ? fuzz::file_of(content, 1 << 12) : std::string{content});
    }

    sf::checkpoint_options lenient;
    lenient.read = sf::read_options::lenient();
    for (const sf::checkpoint_options& options : {sf::checkpoint_options{}, lenient}) {
        const auto mapped = sf::checkpoint::open(directory, options);
        const auto read = sf::positional_checkpoint::open(directory, options);
        const auto report = sf::checkpoint::verify(directory, options);
        FUZZ_HOLD(mapped.has_value() == read.has_value() && report.has_value());
        FUZZ_HOLD(report->is_sound() == mapped.has_value());
        for (const sf::failure& each : report->failures()) FUZZ_HOLD(each.message().size() > 0);
        if (!mapped) {
            FUZZ_HOLD(mapped.error().message() == read.error().message());
            continue;
        }
        FUZZ_HOLD(mapped->size() == read->size() && mapped->file_count() == read->file_count());
        for (std::size_t i = 0; i < mapped->size(); ++i)
            FUZZ_HOLD(mapped->spec(i).name == read->spec(i).name);
        hold_tensors(*mapped, options.read);
        hold_tensors(*read, options.read);
    }
    for (const std::string& each : written) ::unlink(each.c_str());
    return 0;
}
