// Prints the lanes of images, with OpenCV alone, 4.6 or later (5.0: its calls were tried from Python).
// LANES.onnx is of export_fixed.py --batch 1, and LANES.onnx.yaml beside it has what OpenCV cannot read in the file.
// A lane is six control points of a Bezier curve, far to near, x and y in [0, 1] of the image; y is linear along it.
#include <filesystem>
#include <iostream>
#include <opencv2/dnn.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

const int kPoints = 6, kPixels = CV_VERSION_MAJOR < 5 ? CV_32F : CV_8U;  // of a lane; type of pixels, 0 to 255
const double kMinGap = 0.015;  // of the image width: two neighbouring slots that are closer are the same lane
const int kColors[] = {0x56B4E9, 0xE69F00, 0x009E73, 0xF0E442, 0xD55E00, 0xCC79A7};  // RGB

cv::Mat resized(cv::Mat image, cv::Size size) {  // as in the network's training
  while (image.cols >= 2 * size.width && image.rows >= 2 * size.height)
    cv::resize(image, image, {image.cols / 2, image.rows / 2}, 0, 0, cv::INTER_AREA);
  cv::resize(image, image, {std::min(image.cols, size.width), std::min(image.rows, size.height)}, 0, 0, cv::INTER_AREA);
  cv::resize(image, image, size, 0, 0, cv::INTER_LINEAR);
  return image;
}

cv::Point2d at(const cv::Point2f* lane, double t) {  // the point of a curve, by de Casteljau
  std::vector<cv::Point2d> p(lane, lane + kPoints);
  for (int n = kPoints - 1; n > 0; n--)
    for (int i = 0; i < n; i++) p[i] += t * (p[i + 1] - p[i]);
  return p[0];
}

bool same_line(const cv::Point2f* left, const cv::Point2f* right) {  // by the mean gap in the rows that both reach
  double sum = 0, rows = 0;
  for (int i = 0; i < 16; i++) {
    const cv::Point2d point = at(right, i / 15.0);
    const double t = (point.y - left[0].y) / (left[kPoints - 1].y - left[0].y);
    if (t >= 0 && t <= 1) sum += std::abs(at(left, t).x - point.x), rows++;
  }
  return rows > 0 && sum / rows < kMinGap;
}

void draw(cv::Mat& image, const cv::Point2f* lane, int rgb) {
  std::vector<cv::Point> curve;  // in sixteenths of a pixel
  for (int i = 0; i < 64; i++) {
    const cv::Point2d point = at(lane, i / 63.0);
    curve.emplace_back(cvRound(16 * (point.x * image.cols - 0.5)), cvRound(16 * (point.y * image.rows - 0.5)));
  }
  const int width = std::max(2, cvRound(std::hypot(image.cols, image.rows) / 250));
  cv::polylines(image, curve, false, cv::Scalar(rgb & 255, rgb >> 8 & 255, rgb >> 16), width, cv::LINE_AA, 4);
}

int main(int argc, char** argv) try {
  std::vector<std::string> words(argv + 1, argv + argc), names;
  std::string folder, own;
  for (size_t i = 0; i < words.size(); i++)
    if (words[i] == "--save-images" && i + 1 < words.size()) folder = words[++i];
    else if (words[i] == "--threshold" && i + 1 < words.size()) own = words[++i];
    else names.push_back(words[i]);
  if (names.size() < 2) throw std::runtime_error("usage: lanes LANES.onnx IMAGE ... [--threshold T] [--save-images D]");
  const cv::FileStorage settings(names[0] + ".yaml", cv::FileStorage::READ);
  if ((std::string)settings["format"] != "lane-regression" || (int)settings["batch"] != 1)
    throw std::runtime_error(names[0] + ".yaml is missing or not of export_fixed.py --batch 1; it writes both files");
  const cv::Size size((int)settings["width"], (int)settings["height"]);
  if (own.find_first_not_of("0123456789.") != own.npos) throw std::runtime_error("--threshold " + own + ": no number");
  const double threshold = own.empty() ? (double)settings["threshold"] : std::stod(own);
  cv::dnn::Net net = cv::dnn::readNetFromONNX(names[0]);
  if (!folder.empty()) std::filesystem::create_directories(folder);
  int status = 0;
  for (size_t number = 1; number < names.size(); number++) {
    cv::Mat image = cv::imread(names[number], cv::IMREAD_COLOR);  // BGR
    if (image.empty()) {
      std::cerr << "error: " << names[number] << ": not an image that OpenCV can decode\n";
      status = 1;
      continue;
    }
    net.setInput(cv::dnn::blobFromImage(resized(image, size), 1, {}, {}, true, false, kPixels), "images");  // RGB
    std::vector<cv::Mat> outputs;
    net.forward(outputs, std::vector<cv::String>{"points", "confidence"});
    const float* confidence = outputs[1].ptr<float>();
    const cv::Point2f* points = outputs[0].ptr<cv::Point2f>();  // kPoints a slot
    const int slots = (int)outputs[1].total();
    std::vector<bool> keep(slots);
    for (int i = 0; i < slots; i++) keep[i] = confidence[i] >= threshold;
    for (int i = 0; i + 1 < slots; i++)  // of two neighbours on the same line the better one stays
      if (keep[i] && keep[i + 1] && same_line(points + i * kPoints, points + (i + 1) * kPoints))
        keep[confidence[i + 1] > confidence[i] ? i : i + 1] = false;
    std::cout << names[number];
    for (int i = 0; i < slots; i++, points += kPoints) {
      if (!keep[i]) continue;
      std::cout << cv::format("\nSample %zu: Lane %d (%.2f):", number, i + 1, confidence[i]);
      for (int p = 0; p < kPoints; p++) std::cout << cv::format(" P%d=(%.3f, %.3f)", p, points[p].x, points[p].y);
      draw(image, points, kColors[i % 6]);
    }
    std::cout << (std::count(keep.begin(), keep.end(), true) ? "\n" : cv::format("\nSample %zu: no lane\n", number));
    const std::string name = cv::format("/%05zu_", number) + std::filesystem::path(names[number]).stem().string();
    if (!folder.empty()) cv::imwrite(folder + name + ".jpg", image);
  }
  return status;
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << "\n";
  return 1;
}
