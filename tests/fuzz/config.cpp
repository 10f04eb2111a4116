// A config.json: it is read or refused. Additional white space in the text does not change the
// result.
#include "fuzz.hpp"

#include <safefuse/read/model_config.hpp>

namespace sf = safefuse;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view input{reinterpret_cast<const char*>(data), size};
    const auto config = sf::model_config::parse(fuzz::bytes_of(input));
    const auto padded = sf::model_config::parse(fuzz::bytes_of(" \n" + std::string{input} + "\t "));
    FUZZ_HOLD(config.has_value() == padded.has_value());
    if (!config) {
        if (config.error().code == sf::errc::another_format) return 0;  // it begins as one
        FUZZ_HOLD(config.error().code == sf::errc::bad_json && config.error().offset <= size);
        return 0;
    }
    FUZZ_HOLD(config->model_type == padded->model_type &&
              config->text_model_type == padded->text_model_type);
    FUZZ_HOLD(config->quantization == padded->quantization &&
              config->dtype_name == padded->dtype_name);
    FUZZ_HOLD(config->expert_count == padded->expert_count);
    for (const sf::text* each : {&config->model_type, &config->text_model_type,
                                 &config->quantization, &config->dtype_name})
        FUZZ_HOLD(each->size() <= size && sf::detail::is_utf8(*each));
    return 0;
}
